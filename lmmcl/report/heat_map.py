"""The matrix as a heat map: what each stage taught and cost."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from lmmcl.evaluation.matrix import Matrix, Stage
from lmmcl.report.style import CHANGE, FAINT, INK, MUTED, headline, label, new_figure, place, signed, styled

_CELL, _ROW, _GAP = 0.74, 0.46, 0.22
_LEFT, _RIGHT, _TOP, _BOTTOM = 1.70, 0.30, 1.28, 0.80
_LINE, _NARROWEST = 0.14, 7.2
_SMALLEST_SCALE = 20.0
MEAN = "mean"


def _mean(stage: Stage, tasks: Sequence[str]) -> float | None:
    """Mean score of the tasks at a stage, None where one is not measured."""
    scores = [stage.cells[task].score for task in tasks if task in stage.cells]
    return sum(scores) / len(scores) if scores and len(scores) == len(tasks) else None


def _score(stage: Stage, task: str, tasks: Sequence[str]) -> float | None:
    if task == MEAN:
        return _mean(stage, tasks)
    return stage.cells[task].score if task in stage.cells else None


def _scale(matrix: Matrix) -> Normalize:
    """Changes to colours, symmetric, as far as the largest change but no farther than 100 points."""
    base = matrix.stages[0]
    changes = [
        abs(stage.cells[task].score - base.cells[task].score)
        for stage in matrix.stages
        for task in stage.cells.keys() & base.cells.keys()
    ]
    reach = max([_SMALLEST_SCALE, *changes])
    reach = min(100.0, 10.0 * math.ceil(reach / 10.0))
    return Normalize(-reach, reach)


def _text_colour(colour: tuple[float, float, float, float]) -> str:
    """Black or white, whichever the cell's luminance bears (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#101216" if luminance > 0.19 else "white"


def _cell(
    axes: Axes, x: float, y: float, score: float | None, change: float | None, scale: Normalize
) -> None:
    """One cell: its colour the change, its number the score, the change below it in small."""
    if score is None:
        axes.text(x + _CELL / 2, y + _ROW / 2, "–", ha="center", va="center", color=MUTED)
        return
    colour = CHANGE(scale(change if change is not None else 0.0))
    axes.add_patch(Rectangle((x, y), _CELL, _ROW, facecolor=colour, edgecolor="white", linewidth=1.2))
    ink = _text_colour(colour)
    lift = 0.40 if change is not None else 0.5
    axes.text(x + _CELL / 2, y + lift * _ROW, f"{score:.1f}", ha="center", va="center", color=ink, fontsize=9)
    if change is not None:
        axes.text(
            x + _CELL / 2,
            y + 0.76 * _ROW,
            signed(change),
            ha="center",
            va="center",
            color=ink,
            fontsize=6.8,
            alpha=0.85,
        )


def _columns(axes: Axes, name: str, tasks: Sequence[str], x: float, lines: int) -> list[float]:
    """Heads of one group of columns; returns where each begins."""
    starts = [x + i * _CELL for i in range(len(tasks))]
    for task, start in zip(tasks, starts, strict=True):
        head = axes.text(start + _CELL / 2, -0.10, label(task), ha="center", va="baseline", fontsize=7.8)
        head.set(linespacing=1.15, fontweight="bold" if task == MEAN else "normal")
    rule = -0.18 - _LINE * lines
    axes.plot([x + 0.02, starts[-1] + _CELL - 0.02], [rule, rule], color=FAINT, linewidth=1.0, clip_on=False)
    axes.text(
        x + 0.02, rule - 0.07, name, ha="left", va="baseline", fontsize=8.5, color=MUTED, fontweight="bold"
    )
    return starts


def _row_label(axes: Axes, stage: Stage, y: float) -> None:
    middle = y + _ROW / 2
    if stage.variant:
        axes.text(
            -1.19, middle, label(stage.variant, 20), va="center", color=MUTED, fontsize=7.5, style="italic"
        )
        return
    name = stage.name.partition("-")[2] or stage.name
    axes.text(-1.19, middle, "base model" if stage.index == 0 else label(name, 16), va="center", fontsize=9)
    if stage.index:
        axes.text(-1.30, middle, str(stage.index), ha="right", va="center", color=MUTED, fontsize=9)


def _legend(figure: Figure, scale: Normalize, left: float, width: float) -> None:
    axes = place(figure, left, 0.42, min(3.2, width), 0.11)
    steps = 256
    axes.imshow([[i / (steps - 1) for i in range(steps)]], aspect="auto", cmap=CHANGE, vmin=0, vmax=1)
    axes.set_yticks([])
    ticks = [scale.vmin, 0.0, scale.vmax]
    axes.set_xticks(
        [0, (steps - 1) / 2, steps - 1], [signed(float(tick or 0.0)) for tick in ticks], fontsize=7.5
    )
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title("change from the base model, points", fontsize=7.5, color=MUTED, loc="left", pad=4)


def heat_map(matrix: Matrix) -> Figure:
    """Stages by tasks, targets apart from held-out tasks.

    The number in a cell is the score, its colour the change from the base model, which stands below it in
    small; a frame marks the task that a stage trained. Rows of variants ("before WiSEFT") stand above the
    stage's own.
    """
    groups = [
        (name, tasks) for name, tasks in (("targets", matrix.targets), ("held-out", matrix.held_out)) if tasks
    ]
    columns = sum(len(tasks) + 1 for _, tasks in groups)
    lines = max(label(task).count("\n") + 1 for task in matrix.tasks)
    top = _TOP + _LINE * (lines - 1)
    width = columns * _CELL + _GAP * (len(groups) - 1)
    height = len(matrix.stages) * _ROW
    with styled():
        figure = new_figure(max(_LEFT + width + _RIGHT, _NARROWEST), top + height + _BOTTOM)
        headline(
            figure,
            "What each stage taught and what it cost",
            "Score after every stage (0–100), below it the change from the base model; framed: just trained",
            0.25,
        )
        axes = place(figure, _LEFT, _BOTTOM, width, height)
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        scale, base, x = _scale(matrix), matrix.stages[0], 0.0
        for name, tasks in groups:
            shown = [*tasks, MEAN]
            for task, start in zip(shown, _columns(axes, name, shown, x, lines), strict=True):
                before = _score(base, task, tasks)
                for row, stage in enumerate(matrix.stages):
                    score = _score(stage, task, tasks)
                    known = stage is not base and score is not None and before is not None
                    _cell(axes, start, row * _ROW, score, score - before if known else None, scale)  # type: ignore[operator]  # known: neither is None
                    if task == stage.trained and not stage.variant:
                        axes.add_patch(_frame(start, row * _ROW))
            x += len(shown) * _CELL + _GAP
        for row, stage in enumerate(matrix.stages):
            _row_label(axes, stage, row * _ROW)
        _legend(figure, scale, _LEFT, width)
    return figure


def _frame(x: float, y: float) -> FancyBboxPatch:
    """The mark of the task a stage trained."""
    inset = 0.025
    box = FancyBboxPatch(
        (x + inset, y + inset), _CELL - 2 * inset, _ROW - 2 * inset, boxstyle="round,pad=0,rounding_size=0.05"
    )
    box.set(facecolor="none", edgecolor=INK, linewidth=1.6, zorder=3)
    return box
