"""Writes the report of several runs: the page, the comparison as a picture, and its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lmmcl.evaluation.across_runs import AcrossRuns
from lmmcl.evaluation.summary import Estimate, Summary
from lmmcl.report.csv_tables import TABLES, correlations_table, table, write_tables
from lmmcl.report.figures import draw_comparison
from lmmcl.report.runs_data import RunsData, price
from lmmcl.report.runs_page import runs_page
from lmmcl.report.way_names import value_text
from lmmcl.report.words import beside
from lmmcl.run.checkpoint import naming_disk_errors, write_atomically

FIGURES = "figures"


def write_runs_report(data: RunsData, page: Path) -> Path:
    """Writes the page, ``figures/`` and ``tables/`` beside it.

    Args:
        data: what was read and compared.
        page: where to.

    Returns:
        The page.
    """
    with naming_disk_errors(page):
        page.parent.mkdir(parents=True, exist_ok=True)
    own = page.stem == "report"
    figures = page.parent / (FIGURES if own else f"{page.stem}_{FIGURES}")
    tables = page.parent / (TABLES if own else f"{page.stem}_{TABLES}")
    paid = price(data.ways)
    if paid is not None:
        draw_comparison(_summaries(data), figures, [way.name for way in data.ways if way.on_front], paid)
    write_tables(runs_tables(data), tables)
    write_atomically(page, runs_page(data, page, beside(figures if paid else None, tables)))
    return page


def _summaries(data: RunsData) -> dict[str, list[Summary]]:
    """Every run's numbers with its own interval, on what all runs have in common."""

    def summary(i: int) -> Summary:
        numbers = data.runs.across([i])
        estimates = {name: Estimate(one.value, one.low, one.high) for name, one in numbers.items()}
        return Summary(data.runs.runs[i].stages, estimates)

    return {way.name: [summary(i) for i in way.members] for way in data.ways}


def runs_tables(data: RunsData) -> dict[str, bytes]:
    """Tables by name: ways, runs, tests, settings."""
    head = ["statistic", "value", "low", "high", "interval_over"]
    ways = [
        (way.name, len(way.members), way.on_front, *row) for way in data.ways for row in _numbers(way.numbers)
    ]
    way_of = {i: way.name for way in data.ways for i in way.members}
    runs = [
        (name, way_of[i], value_text(data.runs.runs[i].settings.get("seed")), *row)
        for i, name in enumerate(data.names)
        for row in _numbers(data.runs.across([i]))
    ]
    tables = {
        "ways": table(["way", "runs", "on_front", *head], ways),
        "runs": table(["run", "way", "seed", *head], runs),
    }
    if data.tests:
        rows = [
            (
                one.first,
                one.second,
                test.name,
                test.value,
                test.low,
                test.high,
                test.p,
                test.n,
                test.unit,
                test.method,
            )
            for one in data.tests
            for test in one.tests
        ]
        names = ["first", "second", "statistic", "difference", "low", "high", "p", "n", "paired", "method"]
        tables["tests"] = table(names, rows)
    if data.differing:
        names = [way.name for way in data.ways]
        settings = [(key, *map(value_text, values)) for key, values in data.differing.items()]
        tables["settings"] = table(["setting", *names], settings)
    if data.correlations:
        tables["correlations"] = correlations_table(data.correlations)
    costs = [
        (data.names[i], way.name, cost.seconds, cost.samples, cost.tokens, cost.flops, cost.peak_memory_bytes)
        for way in data.ways
        for i, cost in zip(way.members, way.costs, strict=True)
        if cost is not None
    ]
    if costs:
        names = ["run", "way", "seconds", "samples", "tokens", "flops", "peak_memory_bytes"]
        tables["costs"] = table(names, costs)
    return tables


def _numbers(numbers: Mapping[str, AcrossRuns]) -> Sequence[tuple[str, float, float, float, str]]:
    return [(name, one.value, one.low, one.high, one.kind) for name, one in numbers.items()]
