"""The matrix as the page shows it: cells with colour, numbers, and what a pointer tells."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lmmcl.evaluation.bootstrap import RESAMPLES, interval, resampled_means
from lmmcl.evaluation.matrix import Matrix, Stage
from lmmcl.evaluation.result import TaskResult
from lmmcl.evaluation.summary import example_scores
from lmmcl.report.heat import reach_of, step_of
from lmmcl.report.run_data import RunData
from lmmcl.report.style import signed

Intervals = Mapping[tuple[str, str], tuple[float, float, float, float]]
"""(title of a stage, task) -> 95 % interval of the score and of its change from the base model."""


@dataclass(frozen=True)
class CellView:
    """One cell: what is written in it, its colour class, and what a pointer tells."""

    score: str
    change: str
    step: int
    tip: str
    trained: bool = False
    mean: bool = False


@dataclass(frozen=True)
class RowView:
    """One stage or variant."""

    number: str
    title: str
    variant: bool
    cells: Sequence[CellView | None]


@dataclass(frozen=True)
class MatrixView:
    """The whole table; ``groups`` are the heads over the columns and how many columns each has."""

    groups: Sequence[tuple[str, int]]
    columns: Sequence[tuple[str, bool, bool]]  # name, whether it is a mean, whether a group begins there
    rows: Sequence[RowView]
    reach: float


def cell_intervals(run: RunData) -> Intervals:
    """Intervals of every cell by a paired bootstrap over the answers, for the final weights of all stages.

    Only of tasks that were measured at every stage and whose answers are kept.
    """
    store, finals, found = run.store(), run.matrix.finals, {}
    for task in run.matrix.measured(run.answered):
        results: list[Mapping[str, TaskResult]] = [{task: store.read(stage.name, task)} for stage in finals]
        scores = example_scores(results, task)
        # The streams of the summary: its intervals and these belong to the same draws.
        seed = (0, zlib.crc32(task.encode()))
        draws = resampled_means(scores, seed, RESAMPLES, results[0][task].groups)
        for k, stage in enumerate(finals):
            found[stage.title, task] = (*interval(draws[:, k]), *interval(draws[:, k] - draws[:, 0]))
    return found


def matrix_view(run: RunData, intervals: Intervals) -> MatrixView:
    """The matrix of a run: targets and held-out tasks apart, each with its mean."""
    matrix = run.matrix
    groups = [
        (name, tasks) for name, tasks in (("Targets", matrix.targets), ("Held-out", matrix.held_out)) if tasks
    ]
    reach = _reach(matrix)
    columns = []
    for _, tasks in groups:
        columns += [(task, False, k == 0) for k, task in enumerate(tasks)]
        columns.append(("mean", True, False))
    rows = []
    for stage in matrix.stages:
        cells: list[CellView | None] = []
        for _, tasks in groups:
            cells += [_cell(matrix, stage, task, reach, intervals) for task in tasks]
            cells.append(_mean_cell(matrix, stage, tasks, reach))
        name = "base model" if stage.index == 0 else run.stage_name(stage.index).replace("_", " ")
        title = stage.variant or name
        rows.append(RowView("" if stage.variant else str(stage.index), title, bool(stage.variant), cells))
    return MatrixView([(name, len(tasks) + 1) for name, tasks in groups], columns, rows, reach)


def _reach(matrix: Matrix) -> float:
    base = matrix.stages[0].cells
    changes = [
        stage.cells[task].score - base[task].score
        for stage in matrix.stages
        for task in stage.cells.keys() & base.keys()
    ]
    return reach_of(changes)


def _cell(matrix: Matrix, stage: Stage, task: str, reach: float, intervals: Intervals) -> CellView | None:
    cell = stage.cells.get(task)
    if cell is None:
        return None
    base = matrix.stages[0].cells.get(task)
    change = cell.score - base.score if base is not None and stage.index else None
    known = intervals.get((stage.title, task))
    where = "base model" if stage.index == 0 else f"after {stage.title}"
    parts = [f"{task}, {where}: {cell.score:.1f}" + (f" [{known[0]:.1f}, {known[1]:.1f}]" if known else "")]
    if change is not None:
        between = f" [{signed(known[2], 1)}, {signed(known[3], 1)}]" if known else ""
        parts.append(f"change {signed(change, 1)}{between}")
    parts.append(f"{cell.n} examples")
    if cell.unparsed:
        parts.append(f"{100 * cell.unparsed:.1f} % could not be read")
    parts += [f"{name} {value:.1f}" for name, value in cell.parts.items()]
    trained = task == stage.trained and not stage.variant
    if trained:
        parts.append("just trained")
    step = step_of(change, reach) if change is not None else 0
    text = signed(change, 1) if change is not None else ""
    return CellView(f"{cell.score:.1f}", text, step, " · ".join(parts), trained)


def _mean_cell(matrix: Matrix, stage: Stage, tasks: Sequence[str], reach: float) -> CellView | None:
    base = matrix.stages[0].cells
    if any(task not in stage.cells for task in tasks):
        return None
    score = float(np.mean([stage.cells[task].score for task in tasks]))
    change = None
    if stage.index and all(task in base for task in tasks):
        change = score - float(np.mean([base[task].score for task in tasks]))
    text = signed(change, 1) if change is not None else ""
    tip = f"mean of {len(tasks)} tasks: {score:.1f}" + (f" · change {text}" if text else "")
    return CellView(f"{score:.1f}", text, step_of(change, reach) if change is not None else 0, tip, mean=True)
