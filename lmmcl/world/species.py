"""Ten beetles that differ in little: which species is it, by the letter of the key."""

from PIL.Image import Image

from lmmcl.world.draw import Colour, canvas, mix, shade
from lmmcl.world.picture import Picture, Question
from lmmcl.world.stream import Stream

# name: (wing cases, marking)
KEY: dict[str, tuple[int, str]] = {
    "ambar": (0, "plain"),
    "bruma": (0, "band"),
    "corvo": (0, "spots"),
    "delma": (0, "stripe"),
    "erwin": (1, "plain"),
    "fosca": (1, "band"),
    "gilda": (1, "spots"),
    "hesper": (2, "plain"),
    "iduna": (2, "band"),
    "jorun": (2, "stripe"),
}
CASES: tuple[Colour, ...] = ((140, 90, 45), (60, 110, 75), (85, 80, 120))
NAMES = tuple(KEY)
LETTERS = "ABCDEFGHIJ"
ASK = (
    "Which species is this?",
    "What is the species of this beetle?",
    "Which beetle is shown in this picture?",
)


def draw(stream: Stream) -> Picture:
    """Draws one beetle on a leaf or on sand; all species are listed in the order of the key."""
    name = stream.pick(NAMES)
    parameters = (
        name,
        stream.below(2),
        24 + stream.between(-2, 2),
        25 + stream.between(-2, 2),
        11 + stream.below(3),
        shade(stream, 16),
        shade(stream, 10),
    )
    choices = "".join(f"\n{letter}. {species}" for letter, species in zip(LETTERS, NAMES, strict=True))
    wordings = tuple(
        f"{ask}{choices}\nAnswer with the option's letter from the given choices directly." for ask in ASK
    )
    letter = LETTERS[NAMES.index(name)]
    return Picture(
        _paint, parameters, (Question(wordings, letter, meta={"options": NAMES, "category": name}),)
    )


def _paint(name: str, ground: int, x: int, y: int, r: int, tint: Colour, change: Colour) -> Image:
    image, pen = canvas(mix(((190, 215, 160), (225, 210, 175))[ground], tint))
    case, marking = KEY[name]
    legs, wing, mark = (40, 30, 30), mix(CASES[case], change), (245, 220, 130)
    for rise in (-r // 2, 2, r // 2 + 5):
        pen.line((x - r - 5, y + rise, x + r + 5, y + rise), fill=legs, width=2)
    pen.ellipse((x - r // 2, y - r - 8, x + r // 2, y - r + 3), fill=legs)
    pen.ellipse((x - r, y - r - 2, x + r, y + r + 5), fill=wing)
    if marking == "band":
        pen.rectangle((x - r + 1, y - 1, x + r - 1, y + 4), fill=mark)
    elif marking == "stripe":
        pen.rectangle((x - 2, y - r, x + 2, y + r + 3), fill=mark)
    elif marking == "spots":
        for dx, dy in ((-r // 2, -3), (r // 2, -3), (-r // 2, 6), (r // 2, 6)):
            pen.ellipse((x + dx - 2, y + dy - 2, x + dx + 2, y + dy + 2), fill=mark)
    return image
