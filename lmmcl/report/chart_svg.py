"""A line chart as inline SVG."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from lmmcl.report import svg
from lmmcl.report.chart import Chart, Line, Note, round_ticks, thinned
from lmmcl.report.style import CATEGORIES, signed, spread

_WIDTH, _HEIGHT = 500.0, 300.0
_TOP, _BOTTOM, _LETTER = 16.0, 46.0, 6.6
_TIPS = 60
"""A line with more points shows no number under the pointer."""


def value_text(value: float, signs: bool) -> str:
    """A value as the axis writes it."""
    if not np.isfinite(value):
        return "–"
    size = abs(value)
    if signs:
        return signed(value, 0 if size >= 10 or value == round(value) else 1)
    if size and (size < 0.001 or size >= 100_000):
        return f"{value:.2g}"
    return f"{value:.3f}".rstrip("0").rstrip(".") if size < 10 else f"{value:.1f}".removesuffix(".0")


class _Plane:
    """Turns a chart's values into places."""

    def __init__(self, chart: Chart, right: float) -> None:
        self.log = chart.log
        self.low, self.high = chart.y_range
        self.first, self.last = (self._x(value) for value in chart.x_range)
        self.right = _WIDTH - right
        widest = max(len(value_text(tick, chart.zero)) for tick in round_ticks(self.low, self.high))
        self.left = 14.0 + _LETTER * max(2, widest)

    def _x(self, value: float) -> float:
        return float(np.log10(max(value, 0.5))) if self.log else value

    def x(self, value: float) -> float:
        share = (self._x(value) - self.first) / ((self.last - self.first) or 1.0)
        return self.left + 8 + share * (self.right - self.left - 16)

    def y(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP)


def line_chart(chart: Chart) -> Markup:
    """The chart as the page shows it: names at the ends of the lines, numbers under the pointer."""
    lines = [thinned(line) for line in chart.lines]
    longest = max(len(line.name) for line in lines)
    plane = _Plane(chart, min(150.0, 26.0 + _LETTER * longest))
    parts = [*_axes(chart, plane)]
    for line in sorted(lines, key=lambda line: ("faint", "plain", "bold").index(line.weight)):
        parts += _line(chart, plane, line)
    for note in chart.notes:
        parts += _note(chart, plane, note)
    parts += _names(plane, lines)
    said = "; ".join(f"{line.name} {value_text(_last(line), chart.zero)}" for line in lines[:9])
    return svg.picture(parts, _WIDTH, _HEIGHT, f"{chart.title}. At the end: {said}.")


def _last(line: Line) -> float:
    known = [value for value in line.y if np.isfinite(value)]
    return known[-1] if known else float("nan")


def _axes(chart: Chart, plane: _Plane) -> list[str]:
    parts = []
    for tick in round_ticks(plane.low, plane.high):
        y = plane.y(tick)
        zero = chart.zero and tick == 0
        parts.append(
            svg.element("line", x1=plane.left, x2=plane.right, y1=y, y2=y, class_="zero" if zero else "grid")
        )
        parts.append(svg.text(value_text(tick, chart.zero), plane.left - 6, y + 4, "tick end"))
    foot = _HEIGHT - _BOTTOM
    for place in chart.rules:
        x = plane.x(place)
        parts.append(svg.element("line", x1=x, x2=x, y1=_TOP, y2=foot, class_="rule"))
    parts += _ticks(chart, plane, foot)
    if chart.x_title:
        parts.append(svg.text(chart.x_title, (plane.left + plane.right) / 2, _HEIGHT - 6, "tick mid"))
    return parts


def _ticks(chart: Chart, plane: _Plane, foot: float) -> list[str]:
    """Names below the axis; where they do not fit, numbers of the stages."""
    ticks = list(chart.ticks)
    if not ticks:
        low, high = chart.x_range
        numbers = [10.0**k for k in range(9)] if chart.log else round_ticks(low, high, 5)
        ticks = [(value, value_text(value, False)) for value in numbers if low <= value <= high]
    parts, free = [], -1e9
    for place, name in ticks:
        words = name.replace("_", " ")
        x, half = plane.x(place), _LETTER * len(words) / 2
        if x - half < free:
            continue
        free = x + half + 4
        parts.append(svg.text(words, x, foot + 18, "tick mid"))
    return parts


def _colour(line: Line) -> str:
    if line.weight == "faint" or (line.colour is None and line.weight == "plain"):
        return "muted"
    return "ink" if line.colour is None else f"k{line.colour % len(CATEGORIES)}"


def _line(chart: Chart, plane: _Plane, line: Line) -> list[str]:
    colour = _colour(line)
    points = [(plane.x(x), plane.y(y)) for x, y in zip(line.x, line.y, strict=True) if np.isfinite(y)]
    parts = []
    if len(line.low) == len(line.y):
        edge = [(plane.x(x), plane.y(y)) for x, y in zip(line.x, line.high, strict=True)]
        back = [(plane.x(x), plane.y(y)) for x, y in zip(line.x, line.low, strict=True)]
        joined = " ".join(f"{svg.number(x)},{svg.number(y)}" for x, y in [*edge, *reversed(back)])
        parts.append(svg.element("polygon", points=joined, class_=f"band {colour}"))
    own = line.solid_from or 0
    if own:
        parts.append(svg.polyline(points[: own + 1], f"line dashed {colour}"))
    parts.append(svg.polyline(points[own:], f"line {line.weight} {colour}"))
    if line.solid_from is not None:
        parts.append(svg.mark(line.colour or 0, *points[own], 4.5, f"dot {colour}"))
    if line.dots:
        parts += [svg.mark(line.colour or 0, x, y, 3.2, f"dot {colour}") for x, y in points]
    if len(line.x) <= _TIPS:
        names = dict(chart.ticks)
        for i, (x, y) in enumerate(zip(line.x, line.y, strict=True)):
            if np.isfinite(y):
                parts.append(
                    _tip(
                        plane, chart, line, i, names.get(x, f"{chart.x_title} {value_text(x, False)}".strip())
                    )
                )
    return parts


def _tip(plane: _Plane, chart: Chart, line: Line, i: int, place: str) -> str:
    """A place that shows its number under the pointer."""
    words = f"{line.name}, {place}: {signed(line.y[i], 1) if chart.zero else value_text(line.y[i], False)}"
    if len(line.low) == len(line.y):
        words += f" [{signed(line.low[i], 1)}, {signed(line.high[i], 1)}]"
    return svg.element(
        "circle", cx=plane.x(line.x[i]), cy=plane.y(line.y[i]), r=9.0, class_="hit", data_tip=words
    )


def _note(chart: Chart, plane: _Plane, note: Note) -> list[str]:
    x, y = plane.x(note.x), plane.y(note.y)
    last = note.x >= chart.x_range[1]
    if note.back is None:
        triangle = svg.mark(4, x, y, 5.5, f"dot {note.kind}")
        words = (x + 6, y + 22, "note end") if last else (x, y + 20, "note mid")
        return [triangle, svg.text(note.text, words[0], words[1], f"{words[2]} {note.kind}")]
    top = plane.y(note.back)
    shaft = svg.element("line", x1=x, x2=x, y1=y, y2=top + 7, class_=f"arrow {note.kind}")
    head = svg.mark(3, x, top + 6, 4.5, f"dot {note.kind}")
    return [shaft, head, svg.text(note.text, x - 6, y + 16, f"note end {note.kind}")]


def _names(plane: _Plane, lines: Sequence[Line]) -> list[str]:
    """Names at the right ends, moved apart, each with a thin line to its own."""
    named = [line for line in lines if line.name]
    ends = [_HEIGHT - plane.y(_last(line)) if np.isfinite(_last(line)) else 0.0 for line in named]
    places = spread(ends, 14.5, _BOTTOM - 4, _HEIGHT - _TOP + 6)
    parts = []
    for line, end, place in zip(named, ends, places, strict=True):
        colour = _colour(line)
        start, x = plane.x(line.x[-1]) + 4, plane.right + 14
        parts.append(
            svg.element(
                "line", x1=start, x2=x - 3, y1=_HEIGHT - end, y2=_HEIGHT - place, class_=f"leader {colour}"
            )
        )
        words = line.name.replace("_", " ")
        words = words if len(words) < 20 else words[:18] + "…"
        bold = " strong" if line.weight == "bold" else ""
        parts.append(svg.text(words, x, _HEIGHT - place + 4, f"name {colour}{bold}"))
    return parts
