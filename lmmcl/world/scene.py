"""Two things out of doors: what stands where."""

from PIL.Image import Image
from PIL.ImageDraw import ImageDraw

from lmmcl.world.draw import Colour, canvas, mix, shade
from lmmcl.world.picture import Picture, Question
from lmmcl.world.stream import Stream

THINGS = ("house", "tree", "car", "boat", "tent", "flower", "snowman", "bench")
SKIES: tuple[Colour, ...] = ((150, 200, 240), (240, 190, 150), (60, 70, 110))
GROUNDS: tuple[Colour, ...] = ((120, 180, 90), (210, 190, 130), (150, 150, 150))
Thing = tuple[str, int, int, Colour]


def draw(stream: Stream) -> Picture:
    """Draws two different things, one on the left and one on the right, on a ground under a sky."""
    left, right = stream.sample(THINGS, 2)
    things = [
        (name, 12 + 24 * place + stream.between(-1, 1), 36 + stream.between(-2, 2), shade(stream))
        for place, name in enumerate((left, right))
    ]
    parameters = (stream.below(3), stream.below(3), shade(stream), stream.between(24, 30), *things)
    captions = (f"a {left} left of a {right}", f"a {right} right of a {left}")
    return Picture(_paint, parameters, _questions(stream, left, right), captions)


def _questions(stream: Stream, left: str, right: str) -> tuple[Question, ...]:
    asked = [
        Question(
            (f"What is to the right of the {left}?", f"What stands right of the {left}?"), right, THINGS
        ),
        Question((f"What is to the left of the {right}?", f"What stands left of the {right}?"), left, THINGS),
        Question(("What is on the left?", "What stands on the left side?"), left, THINGS),
        Question(("What is on the right?", "What stands on the right side?"), right, THINGS),
    ]
    for name, side in ((left, "left"), (right, "right")):
        wordings = (
            f"On which side is the {name}?",
            f"Left or right, where is the {name}?",
            f"Where is the {name}?",
        )
        asked.append(Question(wordings, side, ("left", "right")))
    one, other = stream.sample((left, right), 2)
    side = stream.pick(("left", "right"))
    true = (one == left) == (side == "left")
    ways = (f"Is the {one} {side} of the {other}?", f"Is the {one} to the {side} of the {other}?")
    asked.append(Question(ways, "yes" if true else "no", ("yes", "no")))
    return tuple(asked)


def _paint(sky: int, ground: int, tint: Colour, horizon: int, *things: Thing) -> Image:
    image, pen = canvas(mix(SKIES[sky], tint))
    pen.rectangle((0, horizon, 47, 47), fill=mix(GROUNDS[ground], tint))
    for name, x, y, change in things:
        _PAINTERS[name](pen, x, y, change)
    return image


def _house(pen: ImageDraw, x: int, y: int, change: Colour) -> None:
    pen.rectangle((x - 8, y - 8, x + 8, y + 6), fill=mix((200, 170, 130), change))
    pen.polygon(((x - 10, y - 8), (x, y - 18), (x + 10, y - 8)), fill=mix((160, 50, 40), change))
    pen.rectangle((x - 2, y - 1, x + 3, y + 6), fill=(80, 50, 30))


def _tree(pen: ImageDraw, x: int, y: int, change: Colour) -> None:
    pen.rectangle((x - 2, y - 4, x + 2, y + 6), fill=mix((110, 70, 40), change))
    pen.ellipse((x - 8, y - 20, x + 8, y - 3), fill=mix((30, 110, 40), change))


def _car(pen: ImageDraw, x: int, y: int, change: Colour) -> None:
    pen.rectangle((x - 10, y - 3, x + 10, y + 3), fill=mix((190, 30, 50), change))
    pen.rectangle((x - 5, y - 8, x + 6, y - 3), fill=mix((200, 225, 240), change))
    pen.ellipse((x - 8, y + 1, x - 3, y + 6), fill=(20, 20, 20))
    pen.ellipse((x + 3, y + 1, x + 8, y + 6), fill=(20, 20, 20))


def _boat(pen: ImageDraw, x: int, y: int, change: Colour) -> None:
    pen.polygon(((x - 10, y), (x + 10, y), (x + 6, y + 6), (x - 6, y + 6)), fill=mix((120, 60, 30), change))
    pen.polygon(((x, y - 18), (x + 9, y - 2), (x, y - 2)), fill=mix((245, 245, 245), change))
    pen.line((x - 1, y - 18, x - 1, y), fill=(60, 40, 20), width=2)


def _tent(pen: ImageDraw, x: int, y: int, change: Colour) -> None:
    pen.polygon(((x, y - 12), (x + 11, y + 6), (x - 11, y + 6)), fill=mix((240, 150, 30), change))
    pen.polygon(((x, y - 4), (x + 4, y + 6), (x - 4, y + 6)), fill=(60, 40, 30))


def _flower(pen: ImageDraw, x: int, y: int, change: Colour) -> None:
    pen.line((x, y - 6, x, y + 6), fill=(30, 120, 40), width=2)
    for dx, dy in ((-4, -8), (4, -8), (0, -12), (0, -4)):
        pen.ellipse((x + dx - 3, y + dy - 3, x + dx + 3, y + dy + 3), fill=mix((230, 80, 170), change))
    pen.ellipse((x - 2, y - 10, x + 2, y - 6), fill=(250, 220, 60))


def _snowman(pen: ImageDraw, x: int, y: int, change: Colour) -> None:
    white = mix((240, 240, 248), change)
    pen.ellipse((x - 7, y - 8, x + 7, y + 6), fill=white)
    pen.ellipse((x - 5, y - 16, x + 5, y - 6), fill=white)
    pen.rectangle((x - 5, y - 19, x + 5, y - 15), fill=(20, 20, 20))


def _bench(pen: ImageDraw, x: int, y: int, change: Colour) -> None:
    wood = mix((90, 55, 30), change)
    pen.rectangle((x - 10, y - 8, x + 10, y - 6), fill=wood)
    pen.rectangle((x - 10, y - 2, x + 10, y), fill=wood)
    pen.rectangle((x - 9, y - 8, x - 7, y + 6), fill=wood)
    pen.rectangle((x + 7, y - 8, x + 9, y + 6), fill=wood)


_PAINTERS = {
    "house": _house,
    "tree": _tree,
    "car": _car,
    "boat": _boat,
    "tent": _tent,
    "flower": _flower,
    "snowman": _snowman,
    "bench": _bench,
}
