"""Tables of everything a report shows, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lmmcl.cost import StageCost
from lmmcl.evaluation.flipped_examples import FlippedExample
from lmmcl.evaluation.probe_correlation import ProbeCorrelation
from lmmcl.report.matrix_view import Intervals
from lmmcl.report.run_charts import candidate_name
from lmmcl.report.run_data import RunData, gold_text
from lmmcl.run.checkpoint import naming_disk_errors, write_atomically

TABLES = "tables"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """CSV; numbers in full, nothing for what is not defined."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([_plain(value) for value in row] for row in rows)
    return out.getvalue().encode()


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(float(value))
    if isinstance(value, str) and value[:1] in ("=", "+", "@", "\t") and not _is_number(value):
        return f"'{value}"  # a model's answer must not become a formula of a spreadsheet
    return "" if value is None else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def write_tables(tables: Mapping[str, bytes], folder: Path) -> list[Path]:
    """Writes ``<name>.csv`` each."""
    with naming_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, data in tables.items():
        path = folder / f"{name}.csv"
        write_atomically(path, data)
        written.append(path)
    return written


def run_tables(
    run: RunData, intervals: Intervals, flipped: Sequence[FlippedExample], costs: Sequence[StageCost] = ()
) -> dict[str, bytes]:
    """The tables of one run by name; those it has no data for are left out."""
    tables = {"scores": _scores(run, intervals)}
    if run.summary is not None:
        estimates = [(name, one.value, one.low, one.high) for name, one in run.summary.estimates.items()]
        tables["numbers"] = table(["statistic", "value", "low", "high"], estimates)
        curve = [(k, one.value, one.low, one.high) for k, one in enumerate(run.summary.held_out_curve)]
        if curve:
            tables["held_out_curve"] = table(["stage", "change", "low", "high"], curve)
    if flipped:
        head = ["task", "id", "direction", "cause", "critical", "question", "gold", "before", "after"]
        rows = [
            (
                one.task,
                one.id,
                one.direction,
                one.cause,
                one.critical,
                one.question,
                gold_text(one.gold),
                one.before,
                one.after,
            )
            for one in flipped
        ]
        tables["flips"] = table(head, rows)
    if run.samples:
        head = ["task", "id", "stage", "question", "gold", "answer", "score"]
        rows_ = [
            (one.task, one.id, stage, one.question, one.gold, answer, score)
            for one in run.samples
            for stage, answer, score in one.answers
        ]
        tables["answers"] = table(head, rows_)
    if run.probes:
        readings = [
            (probe.name, row.stage, row.name, row.step, row.at, series, float(value), probe.unit)
            for probe in run.probes
            for row in probe.rows
            for series, value in row.values.items()
        ]
        tables["probes"] = table(
            ["probe", "stage", "name", "step", "at", "series", "value", "unit"], readings
        )
        tables["correlations"] = correlations_table(run.correlations)
    if run.choices:
        tried = [
            (callback, one.stage, one.name, candidate_name(candidate), k == one.chosen, task, float(score))
            for callback, found in run.choices.items()
            for one in found
            for k, candidate in enumerate(one.candidates)
            for task, score in candidate["scores"].items()
        ]
        tables["choices"] = table(
            ["callback", "stage", "name", "candidate", "chosen", "task", "score"], tried
        )
    if costs:
        tables["cost"] = table(list(asdict(costs[0])), [list(asdict(cost).values()) for cost in costs])
    return tables


def correlations_table(correlations: Sequence[ProbeCorrelation]) -> bytes:
    """Every correlation of a probe's series with the held-out change."""
    head = ["probe", "series", "n", "runs", "pearson", "low", "high", "spearman", "low", "high", "note"]
    rows = []
    for one in correlations:
        found = one.correlation
        ends = [v for e in (found.pearson, found.spearman) for v in (e.value, e.low, e.high)]
        rows.append((one.probe, one.series, found.n, found.runs, *ends, found.note))
    return table(head, rows)


def _scores(run: RunData, intervals: Intervals) -> bytes:
    base = run.matrix.stages[0].cells
    rows = []
    for stage in run.matrix.stages:
        for task, cell in stage.cells.items():
            nan = float("nan")
            between = intervals.get((stage.title, task), (nan,) * 4)
            change = cell.score - base[task].score if task in base else nan
            role = "target" if task in run.matrix.targets else "held_out"
            place = (stage.index, stage.name, stage.variant, task, role)
            rows.append((*place, cell.score, *between[:2], change, *between[2:], cell.n, cell.unparsed))
    head = ["stage", "name", "variant", "task", "role", "score", "low", "high", "change", "change_low"]
    return table([*head, "change_high", "n", "unparsed"], rows)
