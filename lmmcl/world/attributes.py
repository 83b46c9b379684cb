"""One or two coloured shapes: what colour, which shape, how large, is it there."""

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
    """Draws one shape, or two of different form and colour, side by side or one above the other."""
    number = 1 if stream.chance(40) else 2
    forms = stream.sample(SHAPE_NAMES, number)
    colours = stream.sample(COLOUR_NAMES, number)
    sizes = [stream.below(2) for _ in forms]
    sideways = stream.chance(60)
    things: list[Thing] = []
    for place, (form, colour, size) in enumerate(zip(forms, colours, sizes, strict=True)):
        along, across = 12 + 24 * place + stream.between(-1, 1), 24 + stream.between(-2, 2)
        x, y = (along, across) if sideways else (across, along)
        things.append((form, colour, (6, 10)[size], x, y, shade(stream)))
    parameters = (stream.chance(35), shade(stream), *things)
    return Picture(
        _paint, parameters, _questions(stream, forms, colours, sizes), _captions(forms, colours, sideways)
    )


def _paint(dark: bool, tint: Colour, *things: Thing) -> Image:
    image, pen = canvas(mix(DARK if dark else LIGHT, tint))
    for form, colour, r, x, y, change in things:
        shape(pen, form, x, y, r, mix(COLOURS[colour], change))
    return image


def _captions(forms: list[str], colours: list[str], sideways: bool) -> tuple[str, ...]:
    named = [
        f"{'an' if colour == 'orange' else 'a'} {colour} {form}"
        for colour, form in zip(colours, forms, strict=True)
    ]
    if len(forms) == 1:
        return (named[0], f"the {forms[0]} is {colours[0]}")
    (first, second), (one, other) = forms, colours
    before, behind = ("left of", "right of") if sideways else ("above", "below")
    return (
        f"{named[0]} {before} {named[1]}",
        f"{named[1]} {behind} {named[0]}",
        f"the {first} is {one} and the {second} is {other}",
        f"the {second} is {other} and the {first} is {one}",
    )


def _questions(
    stream: Stream, forms: list[str], colours: list[str], sizes: list[int]
) -> tuple[Question, ...]:
    asked: list[Question] = []
    for form, colour, size in zip(forms, colours, sizes, strict=True):
        asked += [
            Question(
                (
                    f"What colour is the {form}?",
                    f"What is the colour of the {form}?",
                    f"Name the colour of the {form}.",
                ),
                colour,
                COLOUR_NAMES,
            ),
            Question(
                (
                    f"Which shape is {colour}?",
                    f"What is the shape in {colour}?",
                    f"Name the shape in {colour}.",
                ),
                form,
                SHAPE_NAMES,
            ),
            Question(
                (
                    f"How large is the {form}?",
                    f"What is the size of the {form}?",
                    f"What size is the {form}?",
                ),
                SIZES[size],
                SIZES,
            ),
        ]
    absent = stream.pick([form for form in SHAPE_NAMES if form not in forms])
    form = stream.pick((absent, stream.pick(forms)))
    asked.append(
        Question(
            (f"Is there a {form}?", f"Does the picture show a {form}?", f"Can you see a {form}?"),
            "yes" if form in forms else "no",
            ("yes", "no"),
        )
    )
    return tuple(asked)
