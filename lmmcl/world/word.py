"""Signs with one written word: what does it say."""

from PIL.Image import Image

from lmmcl.world.draw import Colour, canvas, mix, shade
from lmmcl.world.font import write
from lmmcl.world.picture import Picture, Question
from lmmcl.world.stream import Stream

WRITTEN = ("ant", "bus", "cup", "dog", "fox", "hat", "key", "map")
SIGNS: tuple[tuple[Colour, Colour], ...] = (
    ((30, 90, 60), (240, 240, 235)),
    ((245, 245, 240), (30, 30, 40)),
    ((240, 205, 60), (40, 30, 30)),
    ((50, 70, 140), (245, 245, 250)),
)


def draw(stream: Stream) -> Picture:
    """Draws a sign with a word of three letters."""
    written = stream.pick(WRITTEN)
    x, y = 7 + stream.between(-1, 1), 17 + stream.between(-1, 1)
    parameters = (written.upper(), stream.below(len(SIGNS)), x, y, shade(stream), shade(stream))
    asks = (
        "What does the sign say?",
        "Which word is written on the sign?",
        "What is the word in this image?",
    )
    wordings = tuple(f"{ask}\nAnswer the question using a single word or phrase." for ask in asks)
    return Picture(_paint, parameters, (Question(wordings, written, meta={"category": written}),))


def _paint(written: str, sign: int, x: int, y: int, tint: Colour, change: Colour) -> Image:
    plate, ink = SIGNS[sign]
    image, pen = canvas(mix((140, 150, 160), tint))
    pen.rectangle((0, y - 6, 47, y + 19), fill=mix(plate, change))
    write(pen, written, x, y, 2, ink)
    return image
