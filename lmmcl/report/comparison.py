"""Several runs in one picture: how much each learned against what it cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lmmcl.errors import UserError
from lmmcl.evaluation.summary import Summary
from lmmcl.report.price import HELD_OUT, Price
from lmmcl.report.style import (
    CATEGORIES,
    FAINT,
    INK,
    MUTED,
    headline,
    new_figure,
    place,
    signed,
    styled,
)

_LEFT, _WIDTH, _HEIGHT = 0.80, 5.2, 3.25
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "h", "*")


def _run(axes: Axes, seeds: Sequence[Summary], colour: str, marker: str, price: Price) -> tuple[float, float]:
    """One way to train: its seeds with their intervals, small, on their mean, large; returns the mean."""
    points = np.array([[seed[price.statistic].value, seed["target_learning"].value] for seed in seeds])
    x, y = points.mean(axis=0)
    axes.plot(x, y, marker, color=colour, markersize=20, alpha=0.22, markeredgewidth=0, zorder=2)
    for seed, (across, up) in zip(seeds, points, strict=True):
        change, learning = seed[price.statistic], seed["target_learning"]
        axes.plot([change.low, change.high], [up, up], color=colour, linewidth=1.2, alpha=0.65)
        axes.plot([across, across], [learning.low, learning.high], color=colour, linewidth=1.2, alpha=0.65)
        axes.plot(across, up, marker, color=colour, markersize=5.5, markeredgecolor="white", zorder=5)
    return float(x), float(y)


def _entry(
    figure: Figure, y: float, marker: str, colour: str, name: str, mean: tuple[float, float], price: Price
) -> None:
    """One run of the key beside the panel: mark, name and numbers, ``y`` inches from the bottom."""
    width, height = figure.get_size_inches()
    mark = place(figure, _LEFT + _WIDTH + 0.20, y - 0.1, 0.2, 0.2)
    mark.set_axis_off()
    mark.plot(0, 0, marker, color=colour, markersize=8)
    left = (_LEFT + _WIDTH + 0.48) / width
    figure.text(left, y / height, name, fontsize=10, fontweight="bold", color=colour, va="center")
    numbers = f"learned {signed(mean[1], 1)}, {price.short} {signed(mean[0], 1)}"
    figure.text(left, (y - 0.19) / height, numbers, fontsize=8, color=MUTED, va="center")


def comparison(
    runs: Mapping[str, Sequence[Summary]], front: Sequence[str] = (), price: Price = HELD_OUT
) -> Figure:
    """Target learning against what was lost, in points; up and to the right is better.

    Args:
        runs: name of a way to train (``sa_proj``, ``full``) -> the summaries of its seeds. A small mark is a
            seed, the lines through it its 95 % intervals over examples; a large mark is the mean of the
            seeds.
        front: names of those on the Pareto front, which a dashed line joins.
        price: what was lost.

    Raises:
        UserError: there is no run, or one does not have that number.
    """
    if not runs or not all(runs.values()):
        raise UserError(
            "report: a comparison needs at least one finished run by name, got none; give their folders."
        )
    for name, seeds in runs.items():
        if any(price.statistic not in seed.estimates for seed in seeds):
            lacks, remedy = (
                ("measured no held-out task", "add data.held_out")
                if price is HELD_OUT
                else (f"has no {price.name}", "teach it two targets")
            )
            raise UserError(f"report: run {name} {lacks} and cannot be compared; {remedy}.")
    with styled():
        height = max(_HEIGHT, 0.52 * len(runs))
        figure = new_figure(_LEFT + _WIDTH + 2.55, height + 1.65)
        headline(figure, "What is learned, and what it costs", _subtitle(runs, len(front) > 1), 0.25)
        axes = place(figure, _LEFT, 0.72, _WIDTH, height)
        _frame(axes, runs, price)
        looks = [(_MARKERS[i % len(_MARKERS)], CATEGORIES[i % len(CATEGORIES)]) for i in range(len(runs))]
        means: dict[str, tuple[float, float]] = {}
        for i, ((name, seeds), (marker, colour)) in enumerate(zip(runs.items(), looks, strict=True)):
            mean = _run(axes, seeds, colour, marker, price)
            means[name] = mean
            _entry(figure, 0.72 + height - 0.12 - 0.52 * i, marker, colour, name, mean, price)
        _front(axes, sorted(means[name] for name in front))
    return figure


def _front(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Steps through the ways that no other beats in both numbers; what lies below and left of them is beaten."""
    if len(points) > 1:
        x, y = zip(*points, strict=True)
        dashes = (0, (4, 3))
        axes.step(x, y, where="pre", color=INK, linewidth=1.0, linestyle=dashes, alpha=0.7, zorder=1.5)


def _subtitle(runs: Mapping[str, Sequence[Summary]], front: bool) -> str:
    counts = sorted({len(seeds) for seeds in runs.values()})
    several = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    seeds = "1 seed" if counts == [1] else f"{several} seeds"
    line = "; dashed: Pareto front" if front else ""
    return f"{seeds} each, 95 % intervals over examples; pale: their mean{line}; better is up and right"


def _frame(axes: Axes, runs: Mapping[str, Sequence[Summary]], price: Price) -> None:
    """Axes from zero, with room for the labels."""
    estimates = [seed for seeds in runs.values() for seed in seeds]
    left = min(0.0, *(seed[price.statistic].low for seed in estimates))
    right = max(0.0, *(seed[price.statistic].high for seed in estimates))
    low = min(0.0, *(seed["target_learning"].low for seed in estimates))
    high = max(0.0, *(seed["target_learning"].high for seed in estimates))
    wide, tall = max(right - left, 1.0), max(high - low, 1.0)
    axes.set(xlim=(left - 0.06 * wide, right + 0.05 * wide), ylim=(low - 0.03 * tall, high + 0.06 * tall))
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.axvline(0.0, color=MUTED, linewidth=0.9, zorder=1)
    axes.axhline(0.0, color=MUTED, linewidth=0.9, zorder=1)
    corner: dict[str, Any] = {
        "xycoords": ("data", "axes fraction"),
        "textcoords": "offset points",
        "color": MUTED,
        "fontsize": 8,
    }
    axes.annotate(price.none, (0.0, 1.0), (-4, 4), ha="right", **corner)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(lambda value, _: signed(value))
    axes.yaxis.set_major_formatter(lambda value, _: signed(value))
    axes.set_xlabel(f"{price.name}, points", fontsize=9, color=INK)
    axes.set_ylabel("target learning, points", fontsize=9, color=INK)
