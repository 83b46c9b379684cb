"""From a question to the two turns that ask and answer it: open, or as a choice among letters."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lmmcl.world.picture import Picture, Question
from lmmcl.world.stream import Stream

LETTERS = "ABCD"
BY_LETTER = ("Answer with the letter.", "Answer with the option's letter.", "Which letter is right?")
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


def lettered_turn(stream: Stream, question: Question) -> Turn:
    """Asks a question as a choice among up to four lettered options in random order."""
    others = stream.sample(
        [option for option in question.options if option != question.answer], len(question.options) - 1
    )
    options = stream.sample(
        [question.answer, *others[: len(LETTERS) - 1]], min(len(LETTERS), len(question.options))
    )
    listed = "".join(f"\n{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    hint = f"{question.hint} " if question.hint else ""
    letter = LETTERS[options.index(question.answer)]
    said = f"{hint}{stream.pick(question.wordings)}{listed}\n{stream.pick(BY_LETTER)}"
    return Turn(said, letter, letter, {**question.meta, "options": tuple(options)})


def caption_turn(stream: Stream, picture: Picture) -> Turn:
    """Asks for a description of the whole picture."""
    return Turn(stream.pick(CAPTION), stream.pick(picture.captions), picture.captions)
