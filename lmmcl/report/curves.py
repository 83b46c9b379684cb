"""Targets and held-out tasks over the stages: learning, forgetting, the worst stage and what came back."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.statistics import Scores
from lmmcl.evaluation.summary import Summary
from lmmcl.report.style import (
    CATEGORIES,
    FAINT,
    GAIN,
    INK,
    LOSS,
    MUTED,
    halo,
    headline,
    label,
    new_figure,
    place,
    signed,
    spread,
    styled,
)

_PANEL_HEIGHT, _LABELS, _PER_STAGE, _NARROWEST = 3.3, 1.45, 0.72, 3.6


def _stage_axis(axes: Axes, matrix: Matrix) -> None:
    names = ["base" if stage.index == 0 else str(stage.trained or stage.name) for stage in matrix.finals]
    axes.set_xticks(range(len(names)), [label(name) for name in names], fontsize=8)
    axes.set_xlim(-0.15, len(names) - 1 + 0.08)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)


def _end_labels(
    axes: Axes, names: Sequence[str], ends: Sequence[float], colours: Sequence[str], bold: str = ""
) -> None:
    """Names at the right ends of the lines, moved apart, each with a thin line to its own."""
    low, high = axes.get_ylim()
    gap = 0.046 * (high - low)
    last = axes.get_xlim()[1] - 0.08
    for name, end, place_, colour in zip(names, ends, spread(ends, gap, low, high), colours, strict=True):
        step = axes.get_xlim()[1] * 0.03
        axes.plot(
            [last + step * 0.6, last + step * 2.2],
            [end, place_],
            color=colour,
            linewidth=0.7,
            alpha=0.7,
            clip_on=False,
        )
        weight = "bold" if name == bold else "normal"
        axes.text(
            last + step * 2.6,
            place_,
            name.replace("_", " "),
            color=colour,
            fontsize=8,
            va="center",
            fontweight=weight,
        )


def _targets(axes: Axes, matrix: Matrix, tasks: Sequence[str]) -> None:
    """Each target's score; a dot marks its own stage, and it is thin before that."""
    scores = matrix.scores(tasks)
    stages = np.arange(len(scores))
    colours = [CATEGORIES[list(matrix.targets).index(task) % len(CATEGORIES)] for task in tasks]
    for j, (task, colour) in enumerate(zip(tasks, colours, strict=True)):
        trained = list(matrix.targets).index(task) + 1
        own = min(trained, len(scores) - 1)
        axes.plot(
            stages[: own + 1],
            scores[: own + 1, j],
            color=colour,
            linewidth=1.0,
            alpha=0.45,
            linestyle=(0, (4, 2)),
        )
        axes.plot(stages[own:], scores[own:, j], color=colour, linewidth=2.0, solid_capstyle="round")
        if trained < len(scores):
            axes.plot(
                own, scores[own, j], "o", color=colour, markersize=6.5, markeredgecolor="white", zorder=4
            )
    axes.set_ylim(-2, 102)
    axes.set_title("Targets, score", fontsize=9.5, loc="left", fontweight="bold", pad=10)
    _stage_axis(axes, matrix)
    _end_labels(axes, tasks, scores[-1].tolist(), colours)


def _held_out(axes: Axes, matrix: Matrix, tasks: Sequence[str], summary: Summary | None) -> None:
    """Each held-out task's change in grey, their mean in bold, its worst stage and what came back."""
    scores = matrix.scores(tasks)
    change = scores - scores[:1]
    mean = change.mean(axis=1)
    stages = np.arange(len(change))
    axes.axhline(0.0, color=MUTED, linewidth=0.9)
    for column in change.T:
        axes.plot(stages, column, color=MUTED, linewidth=0.9, alpha=0.55)
    if summary is not None and len(summary.held_out_curve) == len(mean):
        low = [point.low for point in summary.held_out_curve]
        high = [point.high for point in summary.held_out_curve]
        axes.fill_between(stages, low, high, color=INK, alpha=0.13, linewidth=0)
    axes.plot(stages, mean, color=INK, linewidth=2.8, solid_capstyle="round", zorder=4)
    reach = max(5.0, float(np.max(np.abs(change))))
    bottom, top = min(-5.0, float(np.min(change))), max(0.0, float(np.max(change)))
    axes.set_ylim(bottom - 0.14 * reach, top + 0.08 * reach)
    axes.set_title(
        "Held-out tasks, change from the base model", fontsize=9.5, loc="left", fontweight="bold", pad=10
    )
    _stage_axis(axes, matrix)
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_formatter(lambda value, _: signed(value))
    names = [*tasks, "mean"]
    _end_labels(axes, names, [*change[-1].tolist(), float(mean[-1])], [MUTED] * len(tasks) + [INK], "mean")
    if len(mean) > 2:  # a single stage is no worst one
        _worst(axes, mean)


def _worst(axes: Axes, mean: Scores) -> None:
    """Marks the worst stage of the mean, and an arrow for what came back since."""
    worst = 1 + int(np.argmin(mean[1:]))
    low, high = axes.get_ylim()
    axes.plot(worst, mean[worst], "v", color=LOSS, markersize=9, markeredgecolor="white", zorder=5)
    note: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8.5, "fontweight": "bold", "zorder": 6}
    note["path_effects"] = halo()
    spot = (worst, mean[worst])
    last = len(mean) - 1
    # The names of the tasks stand to the right of the last stage.
    offset, side = ((-8, -4), "right") if worst == last else ((0, -15), "center")
    axes.annotate(f"worst {signed(mean[worst], 1)}", spot, offset, ha=side, color=LOSS, **note)
    back = mean[last] - mean[worst]
    if last > worst and back > 0.01 * (high - low):
        arrow = {"arrowstyle": "-|>", "color": GAIN, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 3}
        axes.annotate("", (last, mean[last]), (last, mean[worst]), arrowprops=arrow, zorder=5)
        axes.plot(
            [worst, last], [mean[worst]] * 2, color=LOSS, linewidth=0.8, linestyle=(0, (2, 2)), zorder=3
        )
        end = (last, mean[worst])
        axes.annotate(f"{signed(back, 1)} came back", end, (0, -11), ha="right", color=GAIN, **note)


def _legend_text(held_out: bool, summary: Summary | None) -> str:
    band = " with its 95 % interval" if summary is not None else ""
    right = f"; right: each held-out task in grey, their mean in black{band}" if held_out else ""
    return f"A dot where a target was trained, dashed before{right}"


def curves(matrix: Matrix, summary: Summary | None = None) -> Figure:
    """Two panels over the stages: targets on the left, held-out tasks on the right.

    Args:
        matrix: at least the base model and one stage; final weights of tasks measured at every stage are
        shown.
        summary: adds the 95 % band of the held-out mean.
    """
    targets, held_out = matrix.measured(matrix.targets), matrix.measured(matrix.held_out)
    panels = 2 if held_out else 1
    left, top, bottom = 0.55, 1.15, 0.60
    wide = max(_NARROWEST, _PER_STAGE * (len(matrix.finals) - 1))
    panel = wide + _LABELS + 0.25
    with styled():
        figure = new_figure(left + panels * panel, top + _PANEL_HEIGHT + bottom)
        headline(
            figure,
            "Learning and forgetting, stage by stage",
            _legend_text(bool(held_out), summary),
            0.25,
        )
        axes = place(figure, left, bottom, wide, _PANEL_HEIGHT)
        _targets(axes, matrix, targets)
        if held_out:
            axes = place(figure, left + panel, bottom, wide, _PANEL_HEIGHT)
            _held_out(axes, matrix, held_out, summary)
    return figure
