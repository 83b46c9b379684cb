"""The sortable tables of several runs: of the ways to train, and of the runs themselves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from lmmcl.cost import StageCost
from lmmcl.evaluation.across_runs import AcrossRuns
from lmmcl.report.runs_data import RunsData, Way, price
from lmmcl.report.scatter_svg import key_mark
from lmmcl.report.style import signed
from lmmcl.report.way_names import value_text
from lmmcl.report.words import seconds_text, size_text

NUMBERS = {
    "target_learning": "target learning",
    "target_forgetting": "target forgetting",
    "held_out_change": "held-out change",
    "worst_held_out_change": "worst held-out",
    "recovery": "recovery",
}
"""The columns of numbers, and what they are called."""


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


@dataclass(frozen=True)
class SortableTable:
    """A table that the reader sorts by any of its columns.

    Args:
        heads: of the columns, that of the rows' names first.
        rows: each with a cell for every other head.
    """

    heads: Sequence[Head]
    rows: Sequence[TableRow]


def ways_table(data: RunsData) -> SortableTable:
    """Every way to train, with its numbers, whether it is on the front, and what a run of it costs."""
    paid = price(data.ways) is not None
    costs = any(cost is not None for way in data.ways for cost in way.costs)
    heads = [Head("way", False), Head("runs"), *(Head(name) for _, name in _numbers(data))]
    if paid:
        heads.append(Head("front", False))
    if costs:
        heads.append(Head("cost a run"))

    def row(i: int, way: Way) -> TableRow:
        cells = [CellText(str(len(way.members)), str(len(way.members)))]
        cells += [_number(way.numbers.get(key)) for key, _ in _numbers(data)]
        if paid:
            cells.append(CellText("yes" if way.on_front else "–", "0" if way.on_front else "1", number=False))
        if costs:
            cells.append(_cost(way.costs))
        return TableRow(way.name, cells, key_mark(i))

    return SortableTable(heads, [row(i, way) for i, way in enumerate(data.ways)])


def runs_table(data: RunsData, page: Path) -> SortableTable:
    """Every run, with its way, its seed and its numbers.

    Args:
        data: what was read and compared.
        page: where the table will stand; links to the runs' own reports are relative to it.
    """
    way_of = {i: way.name for way in data.ways for i in way.members}
    heads = [
        Head("run", False),
        Head("way", False),
        Head("seed"),
        *(Head(name) for _, name in _numbers(data)),
    ]
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
    return SortableTable(heads, rows)


def _numbers(data: RunsData) -> list[tuple[str, str]]:
    """The columns that some way has a number for; nothing can come back in a single stage."""
    several = any(run.stages > 1 for run in data.runs.runs)
    return [
        (key, name)
        for key, name in NUMBERS.items()
        if any(key in way.numbers and way.numbers[key].defined for way in data.ways)
        and (several or key not in ("worst_held_out_change", "recovery"))
    ]


def _number(number: AcrossRuns | None) -> CellText:
    if number is None or not number.defined:
        return CellText("–", "")
    return CellText(signed(number.value, 1), repr(number.value), between(number))


def _cost(costs: Sequence[StageCost | None]) -> CellText:
    known = [cost for cost in costs if cost is not None]
    if not known:
        return CellText("–", "")
    seconds = sum(cost.seconds for cost in known) / len(known)
    flops = sum(cost.flops for cost in known) / len(known)
    peak = max(cost.peak_memory_bytes for cost in known)
    return CellText(
        seconds_text(seconds), repr(seconds), f"{size_text(flops, 'FLOP')}, {size_text(peak, 'B')}"
    )


def between(number: AcrossRuns) -> str:
    """The interval of a number, as one reads it; "" where there is none."""
    return f"[{signed(number.low, 1)}, {signed(number.high, 1)}]" if number.defined else ""


def _link(run: Path, page: Path) -> str:
    """The run's own report, seen from the page; "" where there is none."""
    report = run / "report.html"
    if not report.exists():
        return ""
    return quote(os.path.relpath(report.resolve(), page.parent.resolve()).replace(os.sep, "/"))
