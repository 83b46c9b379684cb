"""From a question to the two turns that ask and answer it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lmmcl.world.picture import Picture, Question
from lmmcl.world.stream import Stream

CAPTION = (
    "Describe the picture.",
    "Describe this image.",
    "What does the picture show?",
    "What is in this image?",
)


@dataclass(frozen=True)
class Turn:
    """One question as it is said, its answer, and what a scorer needs to score it."""

    question: str
    answer: str
    gold: Any
    meta: Mapping[str, Any] = field(default_factory=dict)


def open_turn(stream: Stream, question: Question) -> Turn:
    """Asks a question in one of its wordings."""
    gold = question.answer if question.gold is None else question.gold
    return Turn(stream.pick(question.wordings), question.answer, gold, question.meta)


def caption_turn(stream: Stream, picture: Picture) -> Turn:
    """Asks for a description of the whole picture: the first is the answer to learn, every one is right."""
    return Turn(stream.pick(CAPTION), picture.captions[0], picture.captions)
