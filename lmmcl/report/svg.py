"""Writes SVG for the page by hand: small, escaped, and coloured by the page's own style sheet, light or dark."""

from collections.abc import Iterable, Sequence
from html import escape

from markupsafe import Markup


def number(value: float) -> str:
    """A coordinate with as few digits as it needs."""
    return f"{value:.1f}".removesuffix(".0")


def element(tag: str, *inside: str, **attributes: object) -> str:
    """One element; ``class_`` stands for ``class``, ``stroke_width`` for ``stroke-width``, None leaves out.

    Args:
        tag: such as ``circle``.
        inside: elements, or texts that `text` escaped.
        attributes: floats are written as coordinates.
    """
    given = {
        name.rstrip("_").replace("_", "-"): value for name, value in attributes.items() if value is not None
    }
    words = "".join(
        f' {name}="{number(value) if isinstance(value, float) else escape(str(value))}"'
        for name, value in given.items()
    )
    return f"<{tag}{words}>{''.join(inside)}</{tag}>" if inside else f"<{tag}{words}/>"


def text(words: str, x: float, y: float, class_: str = "", **attributes: object) -> str:
    """A text; whatever it holds is escaped."""
    return element("text", escape(words), x=float(x), y=float(y), class_=class_ or None, **attributes)


def polyline(points: Iterable[tuple[float, float]], class_: str) -> str:
    """A line through points."""
    joined = " ".join(f"{number(x)},{number(y)}" for x, y in points)
    return element("polyline", points=joined, class_=class_)


_SHAPES = {
    1: ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    2: ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    3: ((0, -1.25), (1.2, 0.9), (-1.2, 0.9)),
    4: ((0, 1.25), (1.2, -0.9), (-1.2, -0.9)),
    5: ((-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4), (0.4, 1.2), (-0.4, 1.2),
        (-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4)),
    6: ((-1.25, 0), (-0.6, -1.1), (0.6, -1.1), (1.25, 0), (0.6, 1.1), (-0.6, 1.1)),
    7: ((0, -1.35), (1.3, -0.4), (0.8, 1.1), (-0.8, 1.1), (-1.3, -0.4)),
    8: ((-1.1, -1.2), (1.1, -1.2), (-1.1, 1.2), (1.1, 1.2)),
}  # fmt: skip
SHAPES = 1 + len(_SHAPES)
"""So many marks can be told apart without colour."""


def mark(kind: int, x: float, y: float, size: float, class_: str, **attributes: object) -> str:
    """A category's mark around a point: each has its own shape, so that nothing hangs on colour.

    Args:
        kind: number of the category.
        x: of its centre.
        y: of its centre.
        size: half its width.
        class_: of the element.
        attributes: more of them.
    """
    corners = _SHAPES.get(kind % SHAPES)
    if corners is None:
        return element("circle", cx=float(x), cy=float(y), r=float(size), class_=class_, **attributes)
    joined = " ".join(f"{number(x + size * dx)},{number(y + size * dy)}" for dx, dy in corners)
    return element("polygon", points=joined, class_=class_, **attributes)


def picture(parts: Sequence[str], width: float, height: float, name: str, class_: str = "chart") -> Markup:
    """The whole picture, as wide as its place; ``name`` says in words what it shows.

    Args:
        parts: elements.
        width: of the drawing.
        height: of the drawing.
        name: for those who cannot see it.
        class_: of the element.
    """
    return Markup(
        element(
            "svg",
            *parts,
            viewBox=f"0 0 {number(width)} {number(height)}",
            role="img",
            aria_label=name,
            class_=class_,
        )
    )
