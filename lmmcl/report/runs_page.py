"""The page of several runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmmcl import __version__
from lmmcl.evaluation.across_runs import AcrossRuns
from lmmcl.evaluation.paired_test import PairedTest
from lmmcl.report.page import render
from lmmcl.report.price import Price
from lmmcl.report.probe_charts import strongest
from lmmcl.report.runs_data import LEARNED, RunsData, Way, WayTest, price
from lmmcl.report.scatter_svg import scatter
from lmmcl.report.sortable_tables import NUMBERS, between, runs_table, ways_table
from lmmcl.report.style import signed
from lmmcl.report.way_names import short_key, value_text
from lmmcl.report.words import count_word, listed

_CORRELATIONS = 30
"""So many are shown, the strongest first; the tables hold all."""


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
        "way_table": ways_table(data),
        "way_names": [way.name for way in data.ways],
        "tests": [_test_row(one) for one in data.tests],
        "tested": [NUMBERS[test.name] for test in data.tests[0].tests] if data.tests else [],
        "tests_note": _tests_note(data),
        "differing": [
            (short_key(key), [value_text(value) for value in found]) for key, found in data.differing.items()
        ],
        "correlations": _correlation_rows(data),
        "correlations_note": _correlations_note(data),
        "run_table": runs_table(data, page),
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
    """Which way learned most, and which lost least; and whether chance alone may have made that order."""
    paid = price(data.ways)
    if len(data.ways) == 1:
        numbers = data.ways[0].numbers
        changed = f", and {paid.tasks} changed by {_words(numbers[paid.statistic])}" if paid else ""
        runs = count_word(len(data.runs.runs), "run")
        return f"Over {runs}, {_words(numbers[LEARNED])} were learned{changed}."
    most = max(data.ways, key=lambda way: way.numbers[LEARNED].value)
    if paid is None:
        return f"{most.name} learned most: {_words(most.numbers[LEARNED])}.{_doubt(data)}"
    least = max(data.ways, key=lambda way: way.numbers[paid.statistic].value)
    if most is least:
        return f"{most.name} learned most and {paid.least}: {_pair(most, paid)}.{_doubt(data)}"
    return (
        f"{most.name} learned most: {_pair(most, paid)}; {least.name} {paid.least}: {_pair(least, paid)}."
        f"{_doubt(data)}"
    )


def _doubt(data: RunsData) -> str:
    """What a reader must know of an order in which no difference is clear."""
    if not data.tests or any(_sure(test) for one in data.tests for test in one.tests):
        return ""
    return " Chance may have made this order: no difference between two ways is clear."


def _sure(test: PairedTest) -> bool:
    return not test.low <= 0 <= test.high and abs(test.value) >= 0.05


def _words(number: AcrossRuns) -> str:
    return f"{signed(number.value, 1)} points {between(number)}"


def _pair(way: Way, paid: Price) -> str:
    learned, lost = way.numbers[LEARNED], way.numbers[paid.statistic]
    return f"{signed(learned.value, 1)} points on the targets, {signed(lost.value, 1)} on the {paid.tasks}"


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


def _test_row(one: WayTest) -> Mapping[str, Any]:
    first = one.tests[0]
    return {
        "first": one.first,
        "second": one.second,
        "tests": [
            {
                "value": test.value,
                "sure": _sure(test),
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
