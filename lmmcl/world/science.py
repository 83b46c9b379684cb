"""Small experiments: what happens, as a choice."""

from PIL.Image import Image
from PIL.ImageDraw import ImageDraw

from lmmcl.world.draw import Colour, canvas, mix, shade
from lmmcl.world.picture import Picture, Question
from lmmcl.world.stream import Stream

NORTH: Colour = (210, 50, 50)
SOUTH: Colour = (50, 80, 210)
GLASS: Colour = (110, 120, 130)
EXPERIMENTS = ("magnets", "thermometer", "circuit", "beaker", "balance")


def draw(stream: Stream) -> Picture:
    """Draws one of five experiments in one of its states."""
    kind = stream.pick(EXPERIMENTS)
    question = _QUESTIONS[kind]
    state = stream.below(len(question.options))
    move = (stream.between(-2, 2), stream.between(-2, 2))
    parameters = (kind, state, stream.below(2), *move, shade(stream), shade(stream))
    answer = question.options[state]
    asked = Question(question.wordings, answer, question.options)
    return Picture(_paint, parameters, (asked,), (f"{_CAPTIONS[kind]} {answer}",))


_QUESTIONS = {
    "magnets": Question(
        ("What will the two magnets do?", "What do the magnets do?"),
        "attract",
        ("attract", "repel"),
    ),
    "thermometer": Question(
        ("How warm is the water?", "What does the thermometer show?"),
        "cold",
        ("cold", "warm", "hot"),
    ),
    "circuit": Question(
        ("What does the lamp do?", "Is the lamp on or off?"),
        "on",
        ("on", "off"),
    ),
    "beaker": Question(
        ("How full is the glass?", "What does the glass look like?"),
        "empty",
        ("empty", "half", "full"),
    ),
    "balance": Question(
        ("Which side is heavier?", "On which side is more weight?"),
        "left",
        ("left", "right", "none"),
    ),
}
_CAPTIONS = {
    "magnets": "two magnets that",
    "thermometer": "a thermometer at",
    "circuit": "a circuit with the lamp",
    "beaker": "a glass that is",
    "balance": "a balance with more weight",
}


def _paint(kind: str, state: int, variant: int, x: int, y: int, tint: Colour, change: Colour) -> Image:
    image, pen = canvas(mix((225, 230, 225), tint))
    _PAINTERS[kind](pen, state, variant, x, y, change)
    return image


def _magnets(pen: ImageDraw, state: int, variant: int, x: int, y: int, change: Colour) -> None:
    inner = (SOUTH, NORTH) if variant else (NORTH, SOUTH)
    left_inner = inner[0]
    right_inner = inner[1] if state == 0 else inner[0]
    for start, first, second in ((2, _other(left_inner), left_inner), (26, right_inner, _other(right_inner))):
        pen.rectangle((start, 17 + y, start + 9, 30 + y), fill=mix(first, change))
        pen.rectangle((start + 10, 17 + y, start + 19, 30 + y), fill=mix(second, change))


def _other(pole: Colour) -> Colour:
    return SOUTH if pole == NORTH else NORTH


def _thermometer(pen: ImageDraw, state: int, variant: int, x: int, y: int, change: Colour) -> None:
    red = mix((220, 40, 40), change)
    pen.rectangle((20 + x, 4 + y, 27 + x, 38 + y), fill=(250, 250, 250), outline=GLASS)
    pen.ellipse((17 + x, 33 + y, 30 + x, 44 + y), fill=red)
    pen.rectangle((22 + x, (30, 19, 8)[state] + y + variant, 25 + x, 36 + y), fill=red)


def _circuit(pen: ImageDraw, state: int, variant: int, x: int, y: int, change: Colour) -> None:
    pen.rectangle((8 + x, 14 + y, 39 + x, 38 + y), outline=(40, 40, 40), width=2)
    pen.rectangle((18 + x, 36 + y, 29 + x, 40 + y), fill=mix((225, 230, 225), (0, 0, 0)))
    rise = 0 if state == 0 else 7 + variant
    pen.line((17 + x, 38 + y, 30 + x, 38 + y - rise), fill=mix((60, 60, 60), change), width=2)
    glow = (255, 225, 40) if state == 0 else (120, 120, 120)
    pen.ellipse((17 + x, 7 + y, 30 + x, 20 + y), fill=mix(glow, change), outline=(40, 40, 40))


def _beaker(pen: ImageDraw, state: int, variant: int, x: int, y: int, change: Colour) -> None:
    pen.rectangle((13 + x, 8 + y, 34 + x, 42 + y), fill=(245, 250, 250), outline=GLASS, width=2)
    if state:
        pen.rectangle(
            (15 + x, (0, 25, 11)[state] + y + variant, 32 + x, 40 + y), fill=mix((70, 140, 220), change)
        )


def _balance(pen: ImageDraw, state: int, variant: int, x: int, y: int, change: Colour) -> None:
    drop = (7 + variant, -7 - variant, 0)[state]
    pen.line((24, 16 + y, 24, 44), fill=(60, 60, 60), width=2)
    pen.line((8, 16 + y + drop, 39, 16 + y - drop), fill=(60, 60, 60), width=2)
    for side, low in ((8, drop), (39, -drop)):
        pen.rectangle((side - 6, 19 + y + low, side + 6, 27 + y + low), fill=mix((180, 120, 50), change))


_PAINTERS = {
    "magnets": _magnets,
    "thermometer": _thermometer,
    "circuit": _circuit,
    "beaker": _beaker,
    "balance": _balance,
}
