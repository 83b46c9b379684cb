"""Colours of change in the page: from a loss to a gain, in light and dark, each with an ink that can be read."""

from collections.abc import Sequence

STEPS = 10
"""Classes on each side of no change."""
SMALLEST_SCALE = 20.0

_LIGHT = ("#8f3a05", "#d9742b", "#f3c096", "#f7f6f3", "#a8cfe6", "#3f8fc4", "#084a80")
_DARK = ("#f39a58", "#b35a1b", "#5f3514", "#262a2f", "#173f5c", "#2673a8", "#6cb8ec")
_INKS = ("#000000", "#ffffff")
"""One of the two can be read on any colour: the geometric mean of their contrasts is the root of 21, above 4.5."""


def rgb(colour: str) -> tuple[float, float, float]:
    """Red, green and blue, each from 0 to 1."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2, definition)."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours (WCAG 2.2), 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _between(stops: Sequence[str], share: float) -> str:
    place = share * (len(stops) - 1)
    first = min(int(place), len(stops) - 2)
    pairs = zip(rgb(stops[first]), rgb(stops[first + 1]), strict=True)
    mixed = [round(255 * (a + (place - first) * (b - a))) for a, b in pairs]
    return "#" + "".join(f"{value:02x}" for value in mixed)


def shades(dark: bool) -> dict[int, tuple[str, str]]:
    """Class -10 to 10 -> colour of the cell and of what is written in it."""
    found = {}
    for step in range(-STEPS, STEPS + 1):
        cell = _between(_DARK if dark else _LIGHT, (step + STEPS) / (2 * STEPS))
        found[step] = (cell, max(_INKS, key=lambda ink: contrast(ink, cell)))
    return found


def style_rules(dark: bool) -> str:
    """Variables ``--h-10`` to ``--h10`` and ``--i-10`` to ``--i10``: colours of cells and inks."""
    return "".join(f"--h{step}:{cell};--i{step}:{ink};" for step, (cell, ink) in shades(dark).items())


def class_rules() -> str:
    """Classes that use them."""
    steps = range(-STEPS, STEPS + 1)
    return "".join(f".h{step}{{background:var(--h{step});color:var(--i{step})}}" for step in steps)


def step_of(change: float, reach: float) -> int:
    """The class of a change; what is not zero never looks like it."""
    step = round(STEPS * max(-1.0, min(1.0, change / reach)))
    if step == 0 and abs(change) >= 0.05 * reach:
        return 1 if change > 0 else -1
    return step


def reach_of(changes: Sequence[float]) -> float:
    """The change that gets the strongest colour: the largest one, between 20 and 100 points."""
    largest = max([SMALLEST_SCALE, *(abs(change) for change in changes)])
    return min(100.0, 10.0 * -(-largest // 10))
