"""The page of several runs."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from lmmcl import __version__
from lmmcl.cost import StageCost
from lmmcl.evaluation.across_runs import AcrossRuns
from lmmcl.report.page import render
from lmmcl.report.price import Price
from lmmcl.report.probe_charts import strongest
from lmmcl.report.runs_data import LEARNED, RunsData, Way, WayTest, price
from lmmcl.report.scatter_svg import key_mark, scatter
from lmmcl.report.style import signed
from lmmcl.report.way_names import short_key, value_text
from lmmcl.report.words import count_word, listed, seconds_text, size_text

NUMBERS = (
    ("target_learning", "target learning"),
    ("target_forgetting", "target forgetting"),
    ("held_out_change", "held-out change"),
    ("worst_held_out_change", "worst held-out"),
    ("recovery", "recovery"),
)


_CORRELATIONS = 30
"""So many are shown, the strongest first; the tables hold all."""


@dataclass(frozen=True)
class Head:
    """A column's head; numbers stand to the right and sort from large to small first."""

    name: str
    number: bool = True


@dataclass(frozen=True)
class CellText:
    """A cell: what it shows, what stands below in small, and what it is sorted by."""

    text: str
    key: str
    small: str = ""
    number: bool = True


@dataclass(frozen=True)
class TableRow:
    """A row of a sortable table."""

    name: str
    cells: Sequence[CellText]
    mark: Markup = field(default_factory=Markup)
    link: str = ""


def runs_page(data: RunsData, page: Path, files: str) -> bytes:
    """The report of several runs.

    Args:
        data: what was read and compared.
        page: where it will lie; links to the runs' own reports are relative to it.
        files: where figures and tables lie, in words.
    """
    paid = price(data.ways)
    several = any(len(way.members) > 1 for way in data.ways)
    context: dict[str, Any] = {
        "title": _title(data),
        "version": __version__,
        "sentence": sentence(data),
        "kicker": _kicker(data),
        "warnings": _warnings(data),
        "several": several,
        "scatter": scatter(data, paid) if paid else "",
        "front": [way.name for way in data.ways if way.on_front],
        "narrow_scatter": scatter(data, paid, 400.0) if paid else "",
        "way_heads": [
            Head("way", False),
            Head("runs"),
            *(Head(name) for _, name in _numbers(data)),
            *([Head("front", False)] if paid else []),
            *_cost_heads(data),
        ],
        "way_rows": [_way_row(data, i, way) for i, way in enumerate(data.ways)],
        "way_names": [way.name for way in data.ways],
        "tests": [_test_row(one) for one in data.tests],
        "tested": [dict(NUMBERS)[test.name] for test in data.tests[0].tests] if data.tests else [],
        "tests_note": _tests_note(data),
        "differing": [
            (short_key(key), [value_text(value) for value in found]) for key, found in data.differing.items()
        ],
        "correlations": _correlation_rows(data),
        "correlations_note": _correlations_note(data),
        "run_heads": [
            Head("run", False),
            Head("way", False),
            Head("seed"),
            *(Head(name) for _, name in _numbers(data)),
        ],
        "run_rows": _run_rows(data, page),
        "files": files,
    }
    known = (
        ("front", "Front", paid),
        ("ways", "Ways", True),
        ("tests", "Differences", data.tests),
        ("settings", "Settings", data.differing),
        ("probes", "Probes", context["correlations"]),
        ("runs", "Runs", True),
    )
    context["sections"] = [(anchor, name) for anchor, name, shown in known if shown]
    return render("runs.html.j2", context)


def _title(data: RunsData) -> str:
    ways, runs = len(data.ways), len(data.runs.runs)
    if ways == 1:
        return f"{data.ways[0].name}, {count_word(runs, 'run')}"
    return f"{count_word(ways, 'way').capitalize()} to learn {count_word(len(data.runs.runs[0].targets), 'task')}"


def sentence(data: RunsData) -> str:
    """Which way learned most, and which lost least."""
    paid = price(data.ways)
    if len(data.ways) == 1:
        numbers = data.ways[0].numbers
        changed = f", and {paid.tasks} changed by {_words(numbers[paid.statistic])}" if paid else ""
        runs = count_word(len(data.runs.runs), "run")
        return f"Over {runs}, {_words(numbers[LEARNED])} were learned{changed}."
    most = max(data.ways, key=lambda way: way.numbers[LEARNED].value)
    if paid is None:
        return f"{most.name} learned most: {_words(most.numbers[LEARNED])}."
    least = max(data.ways, key=lambda way: way.numbers[paid.statistic].value)
    if most is least:
        return f"{most.name} learned most and {paid.least}: {_pair(most, paid)}."
    return f"{most.name} learned most: {_pair(most, paid)}; {least.name} {paid.least}: {_pair(least, paid)}."


def _words(number: AcrossRuns) -> str:
    return f"{signed(number.value, 1)} points {_between(number)}"


def _pair(way: Way, paid: Price) -> str:
    learned, lost = way.numbers[LEARNED], way.numbers[paid.statistic]
    return f"{signed(learned.value, 1)} points on the targets, {signed(lost.value, 1)} on the {paid.tasks}"


def _between(number: AcrossRuns) -> str:
    return f"[{signed(number.low, 1)}, {signed(number.high, 1)}]" if number.defined else ""


def _kicker(data: RunsData) -> str:
    first = data.runs.runs[0]
    said = f"{count_word(len(data.runs.runs), 'run').capitalize()} · taught {listed(sorted(first.targets))}"
    if not first.held_out:
        return said
    return (
        f"{said} · measured on {count_word(len(first.held_out), 'held-out task')}: {listed(first.held_out)}"
    )


def _warnings(data: RunsData) -> list[str]:
    left = [f"Left out, not finished: {name} ({how_far})." for name, how_far in data.unfinished]
    return [*data.notes, *left]


def _numbers(data: RunsData) -> list[tuple[str, str]]:
    """The columns that some way has a number for; nothing can come back in a single stage."""
    several = any(run.stages > 1 for run in data.runs.runs)
    return [
        (key, name)
        for key, name in NUMBERS
        if any(key in way.numbers and way.numbers[key].defined for way in data.ways)
        and (several or key not in ("worst_held_out_change", "recovery"))
    ]


def _number(number: AcrossRuns | None) -> CellText:
    if number is None or not number.defined:
        return CellText("–", "")
    return CellText(signed(number.value, 1), repr(number.value), _between(number))


def _has_costs(data: RunsData) -> bool:
    return any(cost is not None for way in data.ways for cost in way.costs)


def _cost_heads(data: RunsData) -> list[Head]:
    return [Head("cost a run")] if _has_costs(data) else []


def _cost_cells(costs: Sequence[StageCost | None]) -> list[CellText]:
    known = [cost for cost in costs if cost is not None]
    if not known:
        return [CellText("–", "")]
    seconds = sum(cost.seconds for cost in known) / len(known)
    flops = sum(cost.flops for cost in known) / len(known)
    peak = max(cost.peak_memory_bytes for cost in known)
    return [
        CellText(seconds_text(seconds), repr(seconds), f"{size_text(flops, 'FLOP')}, {size_text(peak, 'B')}")
    ]


def _way_row(data: RunsData, i: int, way: Way) -> TableRow:
    cells = [CellText(str(len(way.members)), str(len(way.members)))]
    cells += [_number(way.numbers.get(name)) for name, _ in _numbers(data)]
    if price(data.ways) is not None:
        cells.append(CellText("yes" if way.on_front else "–", "0" if way.on_front else "1", number=False))
    if _has_costs(data):
        cells += _cost_cells(way.costs)
    return TableRow(way.name, cells, key_mark(i))


def _test_row(one: WayTest) -> Mapping[str, Any]:
    first = one.tests[0]
    return {
        "first": one.first,
        "second": one.second,
        "tests": [
            {
                "value": test.value,
                "sure": not test.low <= 0 <= test.high and abs(test.value) >= 0.05,
                "between": f"[{signed(test.low, 1)}, {signed(test.high, 1)}]",
                "p": test.p,
                "p_text": p_text(test.p),
            }
            for test in one.tests
        ],
        "paired": f"{first.n:,} {first.unit}",
    }


def _correlation_rows(data: RunsData) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    for one in strongest(data.correlations)[:_CORRELATIONS]:
        r = one.correlation.pearson
        between = f"[{signed(r.low, 2)}, {signed(r.high, 2)}]" if math.isfinite(r.low) else ""
        rows.append(
            {
                "probe": one.probe,
                "series": one.series,
                "value": r.value,
                "text": signed(r.value, 2),
                "between": between,
                "rank": signed(one.correlation.spearman.value, 2),
                "rank_value": one.correlation.spearman.value,
                "n": f"{one.correlation.n} of {count_word(one.correlation.runs, 'run')}",
                "n_value": one.correlation.n,
            }
        )
    return rows


def p_text(p: float) -> str:
    """A p-value as one reads it."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _tests_note(data: RunsData) -> str:
    methods = dict.fromkeys(test.method for one in data.tests for test in one.tests)
    said = "; ".join(methods)
    count = sum(len(one.tests) for one in data.tests)
    many = f" With {count} tests, expect some p below 0.05 by chance." if count > 8 else ""
    return f"Bold: the interval leaves zero out. Method: {said}.{many}"


def _correlations_note(data: RunsData) -> str:
    more = len(strongest(data.correlations)) - _CORRELATIONS
    said = f" The {_CORRELATIONS} strongest of {_CORRELATIONS + more}." if more > 0 else ""
    return (
        "Correlation of a probe's reading after a stage with the held-out change at that stage, over all stages of all "
        f"runs; the interval is over runs.{said}"
    )


def _run_rows(data: RunsData, page: Path) -> list[TableRow]:
    way_of = {i: way.name for way in data.ways for i in way.members}
    rows = []
    for i, (run, name) in enumerate(zip(data.runs.runs, data.names, strict=True)):
        single = data.runs.across([i])
        seed = run.settings.get("seed")
        cells = [
            CellText(way_of[i], way_of[i], number=False),
            CellText(value_text(seed), value_text(seed)),
            *(_number(single.get(key)) for key, _ in _numbers(data)),
        ]
        rows.append(TableRow(name, cells, link=_link(run.run, page)))
    return rows


def _link(run: Path, page: Path) -> str:
    """The run's own report, seen from the page; "" where there is none."""
    report = run / "report.html"
    if not report.exists():
        return ""
    return quote(os.path.relpath(report.resolve(), page.parent.resolve()).replace(os.sep, "/"))
