"""Bar charts of three coloured bars: which is tallest, how tall is one."""

from itertools import permutations

from PIL.Image import Image

from lmmcl.world.draw import COLOUR_NAMES, COLOURS, LIGHT, Colour, canvas, mix, shade
from lmmcl.world.picture import Picture, Question
from lmmcl.world.stream import Stream

UNIT = 8
"""Pixels to one step of the scale."""


def draw(stream: Stream) -> Picture:
    """Draws a chart of three bars of different colours and of different heights from 1 to 5."""
    colours = stream.sample(COLOUR_NAMES, 3)
    heights = stream.sample((1, 2, 3, 4, 5), 3)
    parameters = (
        tuple(colours),
        tuple(heights),
        stream.between(-1, 1),
        shade(stream),
        *(shade(stream) for _ in "123"),
    )
    bars = [f"{colour} {height}" for colour, height in zip(colours, heights, strict=True)]
    asked = [
        Question(
            (
                f"What is the value of {colour}?",
                f"How high is the bar in {colour}?",
                f"Read the bar in {colour}.",
            ),
            str(height),
            ("1", "2", "3", "4", "5"),
        )
        for colour, height in zip(colours, heights, strict=True)
    ]
    top, low = colours[heights.index(max(heights))], colours[heights.index(min(heights))]
    asked += [
        Question(("Which bar is the tallest?", "What colour is the highest bar?"), top, COLOUR_NAMES),
        Question(("Which bar is the shortest?", "What colour is the lowest bar?"), low, COLOUR_NAMES),
    ]
    return Picture(
        _paint,
        parameters,
        tuple(asked),
        tuple(f"a chart with {one}, {two} and {three}" for one, two, three in permutations(bars)),
    )


def _paint(
    colours: tuple[str, ...], heights: tuple[int, ...], move: int, tint: Colour, *changes: Colour
) -> Image:
    image, pen = canvas(mix(LIGHT, tint))
    for step in range(1, 6):
        pen.line((3, 44 - UNIT * step, 47, 44 - UNIT * step), fill=(190, 190, 190))
    for place, (colour, height, change) in enumerate(zip(colours, heights, changes, strict=True)):
        left = 7 + 14 * place + move
        pen.rectangle((left, 44 - UNIT * height, left + 8, 44), fill=mix(COLOURS[colour], change))
    pen.line((3, 2, 3, 44), fill=(20, 20, 20))
    pen.line((3, 45, 47, 45), fill=(20, 20, 20))
    return image
