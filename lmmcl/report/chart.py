"""What a line chart holds, whoever draws it: the page as inline SVG, matplotlib as PNG and SVG files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Weight = Literal["plain", "bold", "faint"]


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Args:
        name: stands at its right end.
        x: where it is known.
        y: its values; nan leaves a gap.
        low: lower ends of its 95 % band, as many as ``y``, or none.
        high: upper ends.
        weight: ``faint`` lines are context, the ``bold`` one is what to look at.
        colour: number of the category; None: ink for the bold line, grey for others.
        solid_from: from this point on it is solid, dashed before; a large dot marks the place.
        dots: mark every point.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    weight: Weight = "plain"
    colour: int | None = None
    solid_from: int | None = None
    dots: bool = False


@dataclass(frozen=True)
class Note:
    """A remark at a point; ``back`` draws an arrow from there to that height, for what came back."""

    x: float
    y: float
    text: str
    kind: Literal["loss", "gain"]
    back: float | None = None


@dataclass(frozen=True)
class Chart:
    """A line chart.

    Args:
        name: of its files.
        title: above it.
        about: a sentence below the title.
        lines: at least one.
        unit: of the values.
        x_title: below the horizontal axis.
        ticks: places and names on the horizontal axis; none: numbers.
        rules: places of thin vertical lines: where a stage ended, what was chosen.
        bounds: least and largest value of the vertical axis; None: what the lines need.
        zero: draw a line at zero, and let the axis reach it.
        notes: remarks at points.
        log: steps 1, 10, 100, ... at equal distances.
    """

    name: str
    title: str
    about: str
    lines: Sequence[Line]
    unit: str = ""
    x_title: str = ""
    ticks: Sequence[tuple[float, str]] = ()
    rules: Sequence[float] = ()
    bounds: tuple[float, float] | None = None
    zero: bool = False
    notes: Sequence[Note] = ()
    log: bool = False

    @property
    def x_range(self) -> tuple[float, float]:
        """Least and largest place of any point."""
        xs = [x for line in self.lines for x in line.x]
        return min(xs), max(xs)

    @property
    def y_range(self) -> tuple[float, float]:
        """What the vertical axis spans."""
        if self.bounds is not None:
            return self.bounds
        values = [v for line in self.lines for v in (*line.y, *line.low, *line.high) if np.isfinite(v)]
        low, high = min(values, default=0.0), max(values, default=1.0)
        if self.zero:
            low, high = min(low, 0.0), max(high, 0.0)
        room = 0.08 * ((high - low) or abs(high) or 1.0)
        return low - (0 if self.zero and low == 0 else room), high + room


def round_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between two values: steps of 1, 2 or 5 times a power of ten."""
    span = high - low
    if span <= 0 or not np.isfinite(span):
        return [low]
    step = 10.0 ** np.floor(np.log10(span / most))
    step = next(step * factor for factor in (1, 2, 5, 10, 20) if span / (step * factor) <= most)
    first = np.ceil(low / step - 1e-9)
    last = np.floor(high / step + 1e-9)
    return [float(k * step) + 0.0 for k in np.arange(first, last + 1)]


def thinned(line: Line, most: int = 240) -> Line:
    """A long line with as many points as a page can show: means of neighbours."""
    n = len(line.x)
    if n <= most:
        return line
    parts = np.array_split(np.arange(n), most)

    def means(values: Sequence[float]) -> list[float]:
        known = np.asarray(values, dtype=float)
        return [float(known[part].mean()) for part in parts] if len(values) else []

    return Line(
        line.name, means(line.x), means(line.y), means(line.low), means(line.high), line.weight, line.colour
    )
