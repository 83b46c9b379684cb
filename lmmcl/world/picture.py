"""What every family of pictures hands on: the picture, what it shows, and what can be asked about it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from PIL.Image import Image

Paint = Callable[..., Image]


@dataclass(frozen=True)
class Question:
    """A question with one right answer.

    Args:
        wordings: ways to ask it, all meaning the same.
        answer: the right answer.
        options: every answer that would fit the question, the right one among them; empty where they are many.
        gold: what the scorer compares with; the answer where not given.
        meta: what else the scorer or the report needs.
    """

    wordings: tuple[str, ...]
    answer: str
    options: tuple[str, ...] = ()
    gold: Any = None
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A picture before it is painted.

    Args:
        paint: draws the picture from the parameters and from nothing else.
        parameters: all that was drawn by lot for it: plain numbers and words.
        questions: what can be asked about it.
        captions: right descriptions of the whole, each saying the same in another order, the first from left to
            right and from top to bottom; none where it has none.
    """

    paint: Paint
    parameters: tuple[Any, ...]
    questions: tuple[Question, ...]
    captions: tuple[str, ...] = ()

    def image(self) -> Image:
        """Paints it: RGB, 48 by 48 pixels."""
        return self.paint(*self.parameters)

    @property
    def split(self) -> str:
        """The one split this picture belongs to, whoever draws it with whatever seed.

        It is a function of what determines the pixels, so that a picture of the training split can never be
        drawn for dev or test: eight tenths are ``train``, one ``dev``, one ``test``.
        """
        mark = crc32(repr((self.paint.__module__, self.parameters)).encode()) % 10
        return ("dev", "test")[mark] if mark < 2 else "train"
