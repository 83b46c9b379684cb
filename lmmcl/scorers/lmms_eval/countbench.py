"""CountBench as the study scores it: the first digits, else the first number word of the list."""

import re
from collections.abc import Mapping
from typing import Any

from lmmcl.scorers.lmms_eval.number_words import NUMBER_WORDS, whole
from lmmcl.scorers.lmms_eval.prediction import stripped
from lmmcl.scorers.score import Score


def _count(text: str) -> int | None:
    digits = re.search(r"\d+", text)
    if digits:
        return whole(digits[0])
    return next((value for word, value in NUMBER_WORDS.items() if word in text.lower()), None)


def countbench(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """1 when the first run of digits, else the first of zero to twenty found as a substring, is the gold number.

    "fourteen" reads as 4, "none" as 1.

    Args:
        prediction: the model's answer.
        gold: the number.
        meta: not used.

    Returns:
        A score of 0 or 1; unreadable without a number, and with more digits than Python reads (4,300; the original
        ends in an exception).
    """
    said = _count(stripped(prediction))
    return Score(float(said is not None and said == _count(str(gold))), parsed=said is not None)
