"""Learning against what it costs as inline SVG: every way to train with its interval, its seeds, and the front."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from lmmcl.evaluation.across_runs import AcrossRuns
from lmmcl.report import svg
from lmmcl.report.chart import round_ticks
from lmmcl.report.price import Price
from lmmcl.report.runs_data import LEARNED, RunsData, Way
from lmmcl.report.style import CATEGORIES, signed

_HEIGHT = 440.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 18.0, 26.0, 48.0
_LETTER = 6.8


class _Plane:
    def __init__(self, ways: Sequence[Way], price: Price, width: float) -> None:
        self.width, self.price = width, price
        across, up = [self.across(way) for way in ways], [way.numbers[LEARNED] for way in ways]
        xs, ys = (
            [end for number in numbers for end in (number.low, number.high, *number.values)]
            for numbers in (across, up)
        )
        wide, tall = max(max(xs) - min(xs), 1.0), max(max(ys) - min(ys), 1.0)
        self.x_low, self.x_high = min(*xs, 0.0) - 0.05 * wide, max(*xs, 0.0) + 0.06 * wide
        # Learning from zero only where that leaves the ways apart.
        low = min(ys)
        self.y_low = min(0.0, low - 0.06 * tall) if low < 1.5 * tall else low - 0.12 * tall
        self.y_high = max(ys) + 0.08 * tall

    def across(self, way: Way) -> AcrossRuns:
        return way.numbers[self.price.statistic]

    def at(self, way: Way) -> tuple[float, float]:
        return self.x(self.across(way).value), self.y(way.numbers[LEARNED].value)

    def x(self, value: float) -> float:
        return _LEFT + (value - self.x_low) / (self.x_high - self.x_low) * (self.width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return (
            _HEIGHT - _BOTTOM - (value - self.y_low) / (self.y_high - self.y_low) * (_HEIGHT - _BOTTOM - _TOP)
        )


def scatter(data: RunsData, price: Price, width: float = 700.0) -> Markup:
    """The picture; the front is a dashed line through the ways that no other beats in both.

    Args:
        data: the ways and their numbers.
        price: what stands on the horizontal axis.
        width: of the drawing; a narrow one is for phones.
    """
    plane = _Plane(data.ways, price, width)
    parts = [*_axes(plane), *_front(plane, data.ways)]
    for i, way in enumerate(data.ways):
        parts += _way(plane, i, way)
    parts += _labels(plane, data.ways)
    front = ", ".join(way.name for way in data.ways if way.on_front)
    return svg.picture(
        parts,
        plane.width,
        _HEIGHT,
        f"Target learning against {price.name} of {len(data.ways)} ways to train. On the front: {front}. "
        "The table below holds all numbers.",
    )


def _axes(plane: _Plane) -> list[str]:
    parts = []
    bottom = _HEIGHT - _BOTTOM
    for tick in round_ticks(plane.x_low, plane.x_high, 8 if plane.width > 500 else 5):
        x = plane.x(tick)
        parts.append(
            svg.element("line", x1=x, x2=x, y1=_TOP, y2=bottom, class_="zero" if tick == 0 else "grid")
        )
        parts.append(svg.text(signed(tick), x, bottom + 18, "tick mid"))
    for tick in round_ticks(plane.y_low, plane.y_high, 7):
        y = plane.y(tick)
        parts.append(svg.element("line", x1=_LEFT, x2=plane.width - _RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(svg.text(signed(tick), _LEFT - 8, y + 4, "tick end"))
    parts.append(svg.text(plane.price.none, plane.x(0.0) - 6, _TOP - 8, "tick end"))
    parts.append(svg.text(f"{plane.price.name}, points →", plane.width - _RIGHT, _HEIGHT - 8, "tick end"))
    parts.append(svg.text("↑ target learning, points", 6, _TOP - 8, "tick"))
    return parts


def _front(plane: _Plane, ways: Sequence[Way]) -> list[str]:
    """Steps between the ways of the front: what can be had of both at once."""
    points = sorted(plane.at(way) for way in ways if way.on_front)
    steps = [points[0]] if points else []
    for x, y in points[1:]:
        steps += [(steps[-1][0], y), (x, y)]
    return [svg.polyline(steps, "front")] if len(steps) > 1 else []


def _way(plane: _Plane, i: int, way: Way) -> list[str]:
    across, up = plane.across(way), way.numbers[LEARNED]
    x, y = plane.at(way)
    colour = f"k{i % len(CATEGORIES)}"
    parts = [
        svg.element(
            "line", x1=plane.x(across.low), x2=plane.x(across.high), y1=y, y2=y, class_=f"ci {colour}"
        ),
        svg.element("line", x1=x, x2=x, y1=plane.y(up.low), y2=plane.y(up.high), class_=f"ci {colour}"),
    ]
    if across.n > 1:
        for dx, dy in zip(across.values, up.values, strict=True):
            parts.append(svg.mark(i, plane.x(dx), plane.y(dy), 3.0, f"seed {colour}"))
    parts.append(svg.mark(i, x, y, 6.5, f"dot {colour}"))
    tip = (
        f"{way.name}: learned {signed(up.value, 1)} [{signed(up.low, 1)}, {signed(up.high, 1)}], {plane.price.short} "
        f"{signed(across.value, 1)} [{signed(across.low, 1)}, {signed(across.high, 1)}], {len(way.members)} "
        f"run{'' if len(way.members) == 1 else 's'}"
    )
    parts.append(svg.element("circle", cx=x, cy=y, r=15.0, class_="hit", data_tip=tip))
    return parts


def _labels(plane: _Plane, ways: Sequence[Way]) -> list[str]:
    """Names beside the marks, each where it touches no other name and no mark; those without room have the table."""
    marks = [plane.at(way) for way in ways]
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y in marks]
    parts = []
    order = sorted(range(len(ways)), key=lambda i: (not ways[i].on_front, marks[i][1]))
    for i in order:
        name = ways[i].name if len(ways[i].name) <= 34 else f"{ways[i].name[:33]}…"
        width, (x, y) = _LETTER * len(name), marks[i]
        for left, top, anchor in (
            (x + 12, y - 16, ""),
            (x - 12 - width, y - 16, "end"),
            (x + 12, y + 4, ""),
            (x - 12 - width, y + 4, "end"),
            (x - width / 2, y - 26, "mid"),
            (x - width / 2, y + 12, "mid"),
        ):
            box = (left, top, left + width, top + 13)
            inside = (
                left > 2
                and left + width < plane.width - 2
                and top > _TOP - 6
                and top + 13 < _HEIGHT - _BOTTOM
            )
            if inside and not any(_touch(box, other) for other in taken):
                taken.append(box)
                at = {"": left, "end": left + width, "mid": x}[anchor]
                parts.append(svg.text(name, at, top + 11, f"note {anchor} k{i % len(CATEGORIES)}"))
                break
    return parts


def _touch(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def key_mark(i: int) -> Markup:
    """A way's mark for the table."""
    return svg.picture([svg.mark(i, 8.0, 8.0, 5.0, f"dot k{i % len(CATEGORIES)}")], 16.0, 16.0, "", "mk")
