"""Two boxes and an arrow: where it starts, where it points."""

from PIL.Image import Image

from lmmcl.world.draw import COLOUR_NAMES, COLOURS, LIGHT, Colour, canvas, mix, shade
from lmmcl.world.picture import Picture, Question
from lmmcl.world.stream import Stream

WAYS = ("right", "left", "down", "up")


def draw(stream: Stream) -> Picture:
    """Draws two boxes of different colours joined by an arrow."""
    start, end = stream.sample(COLOUR_NAMES, 2)
    way = stream.pick(WAYS)
    parameters = (start, end, way, stream.between(-2, 2), shade(stream), shade(stream), shade(stream))
    captions = (f"an arrow from {start} to {end}", f"an arrow to {end} from {start}")
    questions = (
        Question(
            ("What colour is the box the arrow points to?", "Which box does the arrow point to?"),
            end,
            COLOUR_NAMES,
        ),
        Question(
            ("What colour is the box the arrow starts from?", "Which box does the arrow start from?"),
            start,
            COLOUR_NAMES,
        ),
        Question((f"What comes after {start}?", f"What follows the box in {start}?"), end, COLOUR_NAMES),
        Question((f"What comes before {end}?", f"What leads to the box in {end}?"), start, COLOUR_NAMES),
        Question(("Which way does the arrow point?", "Where does the arrow point?"), way, WAYS),
    )
    return Picture(_paint, parameters, questions, captions)


def _paint(start: str, end: str, way: str, across: int, tint: Colour, first: Colour, second: Colour) -> Image:
    image, pen = canvas(mix(LIGHT, tint))
    a, b = mix(COLOURS[start], first), mix(COLOURS[end], second)
    if way in ("left", "up"):
        a, b = b, a
    mid = 24 + across
    sideways = way in ("left", "right")
    for low, colour in ((2, a), (34, b)):
        box = (low, mid - 7, low + 11, mid + 6) if sideways else (mid - 7, low, mid + 6, low + 11)
        pen.rectangle(box, fill=colour)
    ink = (20, 20, 20)
    forward = way in ("right", "down")
    tip, tail = (32, 26) if forward else (15, 21)
    if sideways:
        pen.line((16, mid, 31, mid), fill=ink, width=2)
        pen.polygon(((tip, mid), (tail, mid - 6), (tail, mid + 6)), fill=ink)
    else:
        pen.line((mid, 16, mid, 31), fill=ink, width=2)
        pen.polygon(((mid, tip), (mid - 6, tail), (mid + 6, tail)), fill=ink)
    return image
