"""Rows of every shape that a family has to read: one picture, several, none, several turns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from lmmcl import Task
from lmmcl.data.row import Row
from lmmcl.scorers import exact_match
from tests.data.processors import say

SHAPES = [(40, 40), (64, 30), (30, 64), (99, 20), (56, 56), (21, 90)]
COLOURS = ["red", "green", "blue", "yellow", "black", "white"]
ANSWERS = ["three", "red\nand blue", "the first one", "no", "left right left", "0 1 2"]


def picture(number: int) -> Image.Image:
    """A picture with something in it, of one of several shapes."""
    drawn = Image.linear_gradient("L").resize(SHAPES[number % len(SHAPES)])
    return Image.merge(
        "RGB",
        (
            drawn,
            Image.new("L", drawn.size, 40 * number % 256),
            drawn.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        ),
    )


def row(name: str, *messages: dict[str, Any], first: int = 0, **options: Any) -> Row:
    """A row with a picture for every place, the first of them by its number."""
    places = sum(part["type"] == "image" for message in messages for part in message["content"])
    return Row(name, list(messages), tuple(picture(first + number) for number in range(places)), **options)


def one(name: str, number: int = 0) -> Row:
    answer = ANSWERS[number % len(ANSWERS)]
    return row(
        name, say("user", "IMAGE", "How many circles?"), say("assistant", answer), first=number, gold=answer
    )


def several(name: str, number: int = 0) -> Row:
    answer = ANSWERS[number % len(ANSWERS)]
    asked = say("user", "IMAGE", "IMAGE", "Which one is larger: the first or the second?", "IMAGE")
    return row(name, asked, say("assistant", answer), first=number, gold=answer)


def none(name: str, number: int = 0) -> Row:
    answer = ANSWERS[number % len(ANSWERS)]
    return row(name, say("user", "What colour ", "is it?"), say("assistant", answer), gold=answer)


def turns(name: str, number: int = 0) -> Row:
    answer = ANSWERS[number % len(ANSWERS)]
    return row(
        name,
        say("user", "IMAGE", "Answer with one word. Is it red?"),
        say("assistant", " yes\n"),
        say("user", "What colour?"),
        say("assistant", "blue"),
        say("user", "IMAGE", "And this?"),
        say("assistant", answer),
        first=number,
        gold=answer,
    )


@dataclass(frozen=True)
class Mixed:
    """Rows of the given shapes in turn, four in every part."""

    shapes: tuple[Any, ...]
    shift: int = 0

    def split(self, name: str) -> Sequence[Row]:
        start = {"train": 0, "dev": 10, "test": 20}[name] + self.shift
        return [
            self.shapes[number % len(self.shapes)](f"{self.shift}-{name}-{number}", start + number)
            for number in range(4)
        ]

    def fingerprint(self) -> str:
        return f"{[shape.__name__ for shape in self.shapes]}-{self.shift}"


def task(name: str, shapes: tuple[Any, ...], shift: int = 0, **options: Any) -> Task:
    """A task of four rows a part."""
    return Task(name, Mixed(shapes, shift), exact_match, max_new_tokens=6, **options)
