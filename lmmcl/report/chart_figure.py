"""A line chart as a figure for PNG and SVG files."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lmmcl.report.chart import Chart, Line
from lmmcl.report.style import (
    CATEGORIES,
    FAINT,
    INK,
    MUTED,
    headline,
    new_figure,
    place,
    signed,
    spread,
    styled,
)

_LEFT, _WIDTH, _HEIGHT, _NAMES = 0.75, 5.0, 2.9, 1.9
_WIDTHS = {"plain": 1.6, "bold": 2.6, "faint": 0.9}


def chart_figure(chart: Chart) -> Figure:
    """The chart with its title, its sentence, and the names at the ends of its lines."""
    with styled():
        figure = new_figure(_LEFT + _WIDTH + _NAMES, _HEIGHT + 1.65)
        headline(figure, chart.title, "\n".join(textwrap.wrap(chart.about, 105)[:2]), 0.25)
        axes = place(figure, _LEFT, 0.65, _WIDTH, _HEIGHT)
        axes.grid(axis="y", color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        axes.spines["bottom"].set_color(FAINT)
        if chart.log:
            axes.set_xscale("log")
        low, high = chart.x_range
        margin = 0.02 * ((high - low) or 1.0)
        axes.set(xlim=(low if chart.log else low - margin, high + margin), ylim=chart.y_range)
        for line in chart.lines:
            _line(axes, line)
        _axis(axes, chart)
        _names(axes, chart)
    return figure


def _colour(line: Line) -> str:
    if line.weight == "faint" or (line.colour is None and line.weight == "plain"):
        return MUTED
    return INK if line.colour is None else CATEGORIES[line.colour % len(CATEGORIES)]


def _line(axes: Axes, line: Line) -> None:
    if len(line.low) == len(line.y):
        axes.fill_between(line.x, line.low, line.high, color=_colour(line), alpha=0.13, linewidth=0)
    marker = "o" if line.dots else ""
    axes.plot(
        line.x, line.y, color=_colour(line), linewidth=_WIDTHS[line.weight], marker=marker, markersize=4
    )


def _axis(axes: Axes, chart: Chart) -> None:
    if chart.zero:
        axes.axhline(0.0, color=MUTED, linewidth=0.9)
        axes.yaxis.set_major_formatter(lambda value, _: signed(value, 0 if value == round(value) else 1))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_ylabel(chart.unit, fontsize=8.5, color=MUTED)
    axes.set_xlabel(chart.x_title, fontsize=8.5, color=MUTED)
    for where in chart.rules:
        axes.axvline(where, color=FAINT, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0.5)
    if chart.ticks:
        axes.set_xticks([where for where, _ in chart.ticks], [name for _, name in chart.ticks], fontsize=8)
        axes.minorticks_off()


def _names(axes: Axes, chart: Chart) -> None:
    low, high = axes.get_ylim()
    known = [[value for value in line.y if np.isfinite(value)] for line in chart.lines]
    ends = [values[-1] if values else low for values in known]
    right = axes.get_xlim()[1]
    for line, end, at in zip(chart.lines, ends, spread(ends, 0.052 * (high - low), low, high), strict=True):
        axes.annotate(
            line.name,
            (right, end),
            (14, (at - end) / (high - low) * _HEIGHT * 72),
            textcoords="offset points",
            color=_colour(line),
            fontsize=8,
            va="center",
            fontweight="bold" if line.weight == "bold" else "normal",
            arrowprops={
                "arrowstyle": "-",
                "color": _colour(line),
                "linewidth": 0.6,
                "shrinkA": 0,
                "shrinkB": 0,
            },
            annotation_clip=False,
        )
