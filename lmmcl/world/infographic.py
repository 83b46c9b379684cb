"""Posters of one or two panels, each an icon and its value: the value of an icon, the icon of a value."""

from itertools import permutations

from PIL.Image import Image

from lmmcl.world.draw import (
    COLOUR_NAMES,
    COLOURS,
    SHAPE_NAMES,
    Colour,
    canvas,
    mix,
    shade,
    shape,
)
from lmmcl.world.font import write
from lmmcl.world.picture import Picture, Question
from lmmcl.world.stream import Stream

DIGITS = tuple("0123456789")
PANELS: tuple[Colour, ...] = ((205, 225, 240), (240, 220, 205), (215, 238, 210))


def draw(stream: Stream) -> Picture:
    """Draws one panel, or two, one above the other, with different icons and different digits."""
    number = 1 if stream.chance(35) else 2
    icons = stream.sample(SHAPE_NAMES, number)
    digits = stream.sample(DIGITS, number)
    colours = stream.sample(COLOUR_NAMES, number)
    panels = stream.sample((0, 1, 2), number)
    first = stream.below(2) if number == 1 else 0
    swap = stream.chance(50)
    parameters = (
        tuple(icons),
        tuple(digits),
        tuple(colours),
        tuple(panels),
        swap,
        first,
        stream.between(-1, 1),
        shade(stream),
    )
    values = [f"{icon} {digit}" for icon, digit in zip(icons, digits, strict=True)]
    asked: list[Question] = []
    for icon, digit in zip(icons, digits, strict=True):
        asked += [
            Question(
                (
                    f"What is the value of the {icon}?",
                    f"Which number belongs to the {icon}?",
                    f"What number is next to the {icon}?",
                ),
                digit,
                DIGITS,
            ),
            Question(
                (f"Which icon has the value {digit}?", f"What is next to the number {digit}?"),
                icon,
                SHAPE_NAMES,
            ),
        ]
    return Picture(
        _paint,
        parameters,
        tuple(asked),
        tuple(f"a poster with {' and '.join(order)}" for order in permutations(values)),
    )


def _paint(
    icons: tuple[str, ...],
    digits: tuple[str, ...],
    colours: tuple[str, ...],
    panels: tuple[int, ...],
    swap: bool,
    first: int,
    move: int,
    tint: Colour,
) -> Image:
    image, pen = canvas((255, 255, 255))
    for row, (icon, digit, colour, panel) in enumerate(zip(icons, digits, colours, panels, strict=True)):
        top = 24 * (row + first)
        pen.rectangle((0, top, 47, top + 22), fill=mix(PANELS[panel], tint))
        shape(pen, icon, (36 if swap else 12) + move, top + 11, 8, COLOURS[colour])
        write(pen, digit, (6 if swap else 31) + move, top + 4, 2, (30, 30, 40))
    return image
