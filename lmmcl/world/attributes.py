"""Two coloured shapes: what colour, which shape, how large, is it there."""

from PIL.Image import Image

from lmmcl.world.draw import (
    COLOUR_NAMES,
    COLOURS,
    DARK,
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

Thing = tuple[str, str, int, int, int, Colour]
SIZES = ("small", "large")


def draw(stream: Stream) -> Picture:
    """Draws a picture of two shapes of different form and colour, side by side or one above the other."""
    forms = stream.sample(SHAPE_NAMES, 2)
    colours = stream.sample(COLOUR_NAMES, 2)
    sizes = [stream.below(2), stream.below(2)]
    sideways = stream.chance(60)
    things: list[Thing] = []
    for place, (form, colour, size) in enumerate(zip(forms, colours, sizes, strict=True)):
        along, across = 12 + 24 * place + stream.between(-1, 1), 24 + stream.between(-6, 6)
        x, y = (along, across) if sideways else (across, along)
        things.append((form, colour, (5, 9)[size] + stream.below(2), x, y, shade(stream)))
    parameters = (stream.chance(35), shade(stream), *things)
    first, second = (f"{colour} {form}" for form, colour in zip(forms, colours, strict=True))
    relation = "left of" if sideways else "above"
    return Picture(
        _paint, parameters, _questions(stream, forms, colours, sizes), f"a {first} {relation} a {second}"
    )


def _paint(dark: bool, tint: Colour, *things: Thing) -> Image:
    image, pen = canvas(mix(DARK if dark else LIGHT, tint))
    for form, colour, r, x, y, change in things:
        shape(pen, form, x, y, r, mix(COLOURS[colour], change))
    return image


def _questions(
    stream: Stream, forms: list[str], colours: list[str], sizes: list[int]
) -> tuple[Question, ...]:
    asked: list[Question] = []
    for form, colour, size in zip(forms, colours, sizes, strict=True):
        asked += [
            Question(
                (
                    f"What colour is the {form}?",
                    f"Which colour does the {form} have?",
                    f"Tell me the {form}'s colour.",
                ),
                colour,
                COLOUR_NAMES,
            ),
            Question(
                (
                    f"Which shape is {colour}?",
                    f"What is the {colour} thing?",
                    f"What shape is the {colour} object?",
                ),
                form,
                SHAPE_NAMES,
            ),
            Question(
                (f"How large is the {form}?", f"Is the {form} small or large?", f"What size is the {form}?"),
                SIZES[size],
                SIZES,
            ),
        ]
    absent = stream.pick([form for form in SHAPE_NAMES if form not in forms])
    form = stream.pick((absent, stream.pick(forms)))
    asked.append(
        Question(
            (f"Is there a {form}?", f"Is there a {form} in the picture?", f"Can you see a {form}?"),
            "yes" if form in forms else "no",
            ("yes", "no"),
        )
    )
    return tuple(asked)
