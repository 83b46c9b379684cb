"""Makes the row of one question about a picture."""

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from lmmcl.data.row import Row
from lmmcl.errors import UserError

LETTER_PROMPT = "Answer with the option's letter from the given choices directly."
PHRASE_PROMPT = "Answer the question using a single word or phrase."


def question_row(
    row_id: str,
    prompt: str,
    answer: str,
    pictures: Any,
    gold: Any,
    meta: Mapping[str, Any] | None = None,
) -> Row:
    """A conversation of one question, its pictures before the text, and the answer.

    Args:
        row_id: names the row.
        prompt: the user's turn, without a place for the picture.
        answer: the assistant's turn.
        pictures: what opens a picture, a list of such, or None.
        gold: what the scorer compares with.
        meta: what else the scorer or the report needs.

    Raises:
        UserError: the answer is empty.
    """
    if not answer.strip():
        raise UserError(f"row {row_id}: an answer must not be empty; leave it out by data.on_bad_row: drop.")
    listed = list(pictures) if isinstance(pictures, list | tuple) else [pictures]
    images = tuple(picture for picture in listed if picture is not None)
    asked = [*({"type": "image"} for _ in images), {"type": "text", "text": prompt}]
    messages = [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": [{"type": "text", "text": answer}]},
    ]
    return Row(row_id, messages, images, gold, meta or {})


def lettered(options: Sequence[str]) -> str:
    """The options on lines of their own: ``A. first``, ``B. second``, at most 26."""
    return "\n".join(f"{letter}. {option}" for letter, option in zip(ascii_uppercase, options, strict=False))


def without_place(question: str) -> str:
    """A question without LLaVA's ``<image>`` and the line break beside it; the picture has its own part."""
    return question.replace("\n<image>", "").replace("<image>", "").strip()
