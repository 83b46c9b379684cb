"""Short free answers: the prediction equals a gold answer in normal form."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lmmcl.errors import UserError
from lmmcl.scorers.normalise import normalise
from lmmcl.scorers.score import Score


def accepted(gold: Any, scorer: str) -> list[str]:
    """The gold answers as texts: one, or several of which any is right.

    Raises:
        UserError: there is none, or one is empty or no text or number.
    """
    answers = list(gold) if isinstance(gold, Sequence) and not isinstance(gold, str) else [gold]
    if not answers or not all(is_answer(answer) and str(answer).strip() for answer in answers):
        raise UserError(
            f"scorer {scorer}: the gold answer must be a text or several, got {gold!r}; correct the row, or name the "
            "texts inside it: columns: {gold: 'answers[0].text'}."
        )
    return [str(answer) for answer in answers]


def is_answer(value: Any) -> bool:
    """Whether a gold value is a text or number, and no gap or container, whose name no answer could be."""
    gap = value is None or (isinstance(value, float) and math.isnan(value))
    return not gap and (isinstance(value, str) or not isinstance(value, Mapping | Sequence | bytes))


def exact_match(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """1 when the prediction equals a gold answer up to case, punctuation, articles, number words, lead-ins.

    Args:
        prediction: the model's answer.
        gold: the right answer, or several of which any is right.
        meta: not used.

    Returns:
        A score of 0 or 1; unreadable when nothing but punctuation is there.

    Raises:
        UserError: there is no gold answer, or an empty one.
    """
    said = normalise(prediction)
    right = any(said == normalise(answer) for answer in accepted(gold, "exact_match"))
    return Score(float(right and bool(said)), parsed=bool(said))
