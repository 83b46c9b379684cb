"""Forms with two printed lines: the number in a field."""

from itertools import permutations

from PIL.Image import Image

from lmmcl.world.draw import COLOUR_NAMES, COLOURS, Colour, canvas, mix, shade
from lmmcl.world.font import write
from lmmcl.world.picture import Picture, Question
from lmmcl.world.stream import Stream

LINES = ("first", "second")
PLACES = ("top", "bottom")
NUMBERS = tuple(str(number) for number in range(10, 100))


def draw(stream: Stream) -> Picture:
    """Draws a form of two lines, each a coloured tab and a number of two digits."""
    colours = stream.sample(COLOUR_NAMES, 2)
    numbers = [str(stream.between(10, 99)) for _ in LINES]
    parameters = (tuple(colours), tuple(numbers), stream.between(-1, 1), shade(stream), shade(stream))
    fields = [f"{colour} {number}" for colour, number in zip(colours, numbers, strict=True)]
    captions = tuple(f"a form with {one} and {other}" for one, other in permutations(fields))
    asked: list[Question] = []
    for line, place, colour, number in zip(LINES, PLACES, colours, numbers, strict=True):
        asked += [
            Question((f"What is the number on the {line} line?", f"Read the {line} line."), number, NUMBERS),
            Question((f"Which number is at the {place}?", f"Read the {place} field."), number, NUMBERS),
            Question(
                (f"What is the number beside {colour}?", f"Read the field marked {colour}."), number, NUMBERS
            ),
        ]
    return Picture(_paint, parameters, tuple(asked), captions)


def _paint(colours: tuple[str, ...], numbers: tuple[str, ...], move: int, tint: Colour, ink: Colour) -> Image:
    image, pen = canvas(mix((240, 238, 228), tint))
    for line, (colour, number) in enumerate(zip(colours, numbers, strict=True)):
        top = 4 + 24 * line
        pen.rectangle((2, top + 2, 12, top + 13), fill=COLOURS[colour])
        write(pen, number, 19 + move, top + 1, 2, mix((30, 30, 40), ink))
        pen.line((16, top + 15, 46, top + 15), fill=(170, 170, 170))
    return image
