"""Clocks with two hands: what time is it."""

from PIL.Image import Image

from lmmcl.world.draw import Colour, canvas, mix, shade
from lmmcl.world.picture import Picture, Question
from lmmcl.world.stream import Stream

MINUTES = (0, 30)
# Twelve directions, clockwise from the top, in thousandths: 1000 sin and -1000 cos of 30 degrees each.
DIRECTIONS = (
    (0, -1000), (500, -866), (866, -500), (1000, 0), (866, 500), (500, 866),
    (0, 1000), (-500, 866), (-866, 500), (-1000, 0), (-866, -500), (-500, -866),
)  # fmt: skip


def draw(stream: Stream) -> Picture:
    """Draws a clock that shows a whole or half hour; the short red hand stays on its hour."""
    hour, minute = stream.between(1, 12), stream.pick(MINUTES)
    parameters = (
        hour,
        minute,
        24 + stream.between(-1, 1),
        24 + stream.between(-1, 1),
        *(shade(stream) for _ in "123"),
    )
    asks = (
        "What time does the clock show in this image?",
        "What time is it on this clock?",
        "Which time does the clock show?",
    )
    wordings = tuple(f"{ask}\nAnswer with the time in HH:MM format." for ask in asks)
    answer = f"{hour:02d}:{minute:02d}"
    return Picture(_paint, parameters, (Question(wordings, answer, meta={"category": f"{hour:02d}"}),))


def _paint(hour: int, minute: int, x: int, y: int, tint: Colour, change: Colour, face: Colour) -> Image:
    image, pen = canvas(mix((120, 130, 150), tint))
    pen.ellipse(
        (x - 22, y - 22, x + 22, y + 22), fill=mix((240, 240, 235), face), outline=(30, 30, 30), width=2
    )
    for dx, dy in DIRECTIONS:
        mx, my = x + dx * 19 // 1000, y + dy * 19 // 1000
        pen.rectangle((mx, my, mx + 1, my + 1), fill=(90, 90, 90))
    dx, dy = DIRECTIONS[minute // 5]
    pen.line((x, y, x + dx * 18 // 1000, y + dy * 18 // 1000), fill=(20, 20, 30), width=2)
    dx, dy = DIRECTIONS[hour % 12]
    pen.line((x, y, x + dx * 11 // 1000, y + dy * 11 // 1000), fill=mix((210, 40, 40), change), width=4)
    return image
