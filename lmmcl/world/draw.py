"""What all pictures of the world are drawn with: a canvas, named colours and named shapes, in whole pixels."""

from PIL import Image, ImageDraw

from lmmcl.world.stream import Stream

SIDE = 48
"""Side of every picture in pixels."""

Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "red": (220, 40, 40),
    "orange": (245, 145, 30),
    "yellow": (240, 225, 50),
    "green": (50, 170, 70),
    "blue": (50, 90, 220),
    "purple": (150, 60, 180),
}
COLOUR_NAMES = tuple(COLOURS)
SHAPE_NAMES = ("circle", "square", "triangle", "star", "cross", "ring")
LIGHT: Colour = (232, 232, 228)
DARK: Colour = (34, 34, 42)


def shade(stream: Stream, spread: int = 12) -> Colour:
    """Draws a small change of colour, to be added to a base colour."""
    return tuple(stream.between(-spread, spread) for _ in range(3))  # type: ignore[return-value]  # three of them


def mix(base: Colour, change: Colour) -> Colour:
    """Adds a change to a colour and keeps it within 0 to 255."""
    return tuple(min(255, max(0, a + b)) for a, b in zip(base, change, strict=True))  # type: ignore[return-value]


def canvas(colour: Colour) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Makes an empty picture and the pen that draws on it."""
    image = Image.new("RGB", (SIDE, SIDE), colour)
    pen = ImageDraw.Draw(image)
    return image, pen


def shape(pen: ImageDraw.ImageDraw, name: str, x: int, y: int, r: int, fill: Colour) -> None:
    """Draws a named shape around (x, y) that reaches r pixels to each side."""
    if name == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)
    elif name == "square":
        pen.rectangle((x - r + 1, y - r + 1, x + r - 1, y + r - 1), fill=fill)
    elif name == "triangle":
        pen.polygon(((x, y - r), (x + r, y + r - 1), (x - r, y + r - 1)), fill=fill)
    elif name == "star":
        pen.polygon([(x + dx * r // 100, y + dy * r // 100) for dx, dy in _STAR], fill=fill)
    elif name == "cross":
        arm = max(1, r // 3)
        pen.rectangle((x - arm, y - r, x + arm, y + r), fill=fill)
        pen.rectangle((x - r, y - arm, x + r, y + arm), fill=fill)
    elif name == "ring":
        pen.ellipse((x - r, y - r, x + r, y + r), outline=fill, width=max(2, r // 3))
    else:
        raise KeyError(name)


_STAR = (
    (0, -110), (28, -36), (105, -34), (46, 14), (65, 89), (0, 46), (-65, 89), (-46, 14), (-105, -34), (-28, -36),
)  # fmt: skip
