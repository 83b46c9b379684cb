"""Many small things of one kind: how many."""

from PIL.Image import Image

from lmmcl.world.draw import (
    COLOUR_NAMES,
    COLOURS,
    LIGHT,
    SHAPE_NAMES,
    Colour,
    canvas,
    mix,
    shade,
    shape,
)
from lmmcl.world.picture import Picture, Question
from lmmcl.world.stream import Stream

MOST = 9
PLURAL = {name: "crosses" if name == "cross" else f"{name}s" for name in SHAPE_NAMES}
CELLS = tuple((8 + 16 * column, 8 + 16 * row) for row in range(3) for column in range(3))


def draw(stream: Stream) -> Picture:
    """Draws one to nine shapes of one form and colour that do not touch."""
    number = stream.between(1, MOST)
    form, colour = stream.pick(SHAPE_NAMES), stream.pick(COLOUR_NAMES)
    places = tuple(
        (x + stream.between(-2, 2), y + stream.between(-2, 2))
        for x, y in sorted(stream.sample(CELLS, number))
    )
    parameters = (form, colour, places, shade(stream), shade(stream))
    many = PLURAL[form]
    asks = (
        f"How many {many} are in this image?",
        f"How many {many} are in this picture?",
        f"Count the {many}. How many are there?",
    )
    wordings = tuple(f"{ask}\nAnswer with integer and nothing else." for ask in asks)
    question = Question(wordings, str(number), gold=number, meta={"category": form})
    return Picture(_paint, parameters, (question,))


def _paint(
    form: str, colour: str, places: tuple[tuple[int, int], ...], tint: Colour, change: Colour
) -> Image:
    image, pen = canvas(mix(LIGHT, tint))
    for x, y in places:
        shape(pen, form, x, y, 5, mix(COLOURS[colour], change))
    return image
