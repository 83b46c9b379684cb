"""Stained tissue: which tissue it is, and whether it is ill."""

from PIL.Image import Image
from PIL.ImageDraw import ImageDraw

from lmmcl.world.draw import Colour, canvas, mix, shade
from lmmcl.world.picture import Picture, Question
from lmmcl.world.stream import Stream

TISSUES = ("adipose", "glandular", "muscular", "fibrous", "lymphoid", "epithelial")
PRE = "Look at the medical image and answer the following question."
NAME = ("What kind of tissue is this?", "Which tissue is shown?", "What tissue does this slide show?")
ILL = {
    "inflamed": ("Is this tissue inflamed?", "Is there inflammation in this tissue?"),
    "bleeding": ("Is there bleeding in this tissue?", "Is the tissue bleeding?"),
}
NUCLEUS: Colour = (80, 40, 120)


def draw(stream: Stream) -> Picture:
    """Draws one of six tissues, healthy, inflamed (dark cells), bleeding (red pools), or both."""
    tissue = stream.pick(TISSUES)
    signs = {"inflamed": stream.chance(50), "bleeding": stream.chance(50)}
    parameters = (tissue, *signs.values(), stream.below(1 << 16), shade(stream), shade(stream, 8))
    if stream.chance(60):
        asked = Question(tuple(f"{PRE} {ask}" for ask in NAME), tissue, meta={"category": "name"})
    else:
        sign = stream.pick(tuple(ILL))
        answer = "yes" if signs[sign] else "no"
        wordings = tuple(f"{PRE} {ask} Answer yes or no." for ask in ILL[sign])
        asked = Question(wordings, answer, meta={"category": "yes/no"})
    return Picture(_paint, parameters, (asked,))


def _paint(tissue: str, inflamed: bool, bleeding: bool, seed: int, tint: Colour, change: Colour) -> Image:
    image, pen = canvas(mix((236, 170, 200), tint))
    stream = Stream("tissue", seed)
    _PAINTERS[tissue](pen, stream, change)
    if bleeding:
        for _ in range(2):
            x, y = stream.between(8, 40), stream.between(8, 40)
            pen.ellipse((x - 6, y - 4, x + 6, y + 4), fill=(190, 20, 30))
    if inflamed:
        for _ in range(14):
            x, y = stream.between(3, 44), stream.between(3, 44)
            pen.ellipse((x - 1, y - 1, x + 1, y + 1), fill=(30, 20, 90))
    return image


def _adipose(pen: ImageDraw, stream: Stream, change: Colour) -> None:
    for row in range(3):
        for column in range(3):
            x, y = 8 + 16 * column + stream.between(-2, 2), 8 + 16 * row + stream.between(-2, 2)
            pen.ellipse((x - 7, y - 7, x + 7, y + 7), fill=mix((250, 240, 245), change))


def _glandular(pen: ImageDraw, stream: Stream, change: Colour) -> None:
    for row in range(2):
        for column in range(2):
            x, y = 12 + 24 * column + stream.between(-2, 2), 12 + 24 * row + stream.between(-2, 2)
            pen.ellipse((x - 9, y - 9, x + 9, y + 9), outline=mix((140, 70, 150), change), width=4)


def _muscular(pen: ImageDraw, stream: Stream, change: Colour) -> None:
    start = stream.between(0, 7)
    for y in range(start, 48, 10):
        pen.rectangle((0, y, 47, y + 5), fill=mix((200, 90, 120), change))


def _fibrous(pen: ImageDraw, stream: Stream, change: Colour) -> None:
    start = stream.between(0, 7)
    for x in range(start - 24, 72, 7):
        pen.line((x, 0, x + 20, 47), fill=mix((190, 110, 160), change), width=2)


def _lymphoid(pen: ImageDraw, stream: Stream, change: Colour) -> None:
    for row in range(5):
        for column in range(5):
            x, y = 5 + 9 * column + stream.between(-2, 2), 5 + 9 * row + stream.between(-2, 2)
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=mix((150, 100, 170), change))


def _epithelial(pen: ImageDraw, stream: Stream, change: Colour) -> None:
    top = stream.between(12, 24)
    pen.rectangle((0, 0, 47, top), fill=mix((250, 245, 248), change))
    for x in range(2, 48, 7):
        pen.rectangle((x, top, x + 4, top + 14), fill=mix(NUCLEUS, change))


_PAINTERS = {
    "adipose": _adipose,
    "glandular": _glandular,
    "muscular": _muscular,
    "fibrous": _fibrous,
    "lymphoid": _lymphoid,
    "epithelial": _epithelial,
}
