"""PixMo-Count as the study scores it: number words become digits wherever they stand, then the first digits count."""

import re
from collections.abc import Mapping
from typing import Any

from lmmcl.scorers.lmms_eval.number_words import NUMBER_WORDS, whole
from lmmcl.scorers.lmms_eval.prediction import stripped
from lmmcl.scorers.score import Score


def _count(text: str) -> int | None:
    plain = text.lower().replace(".", "")
    for word, value in NUMBER_WORDS.items():
        plain = plain.replace(word, str(value))
    digits = re.search(r"\d+", plain)
    return whole(digits[0]) if digits else None


def pixmo_count(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """1 when the first run of digits is the gold answer's.

    Before that full stops are deleted and zero to twenty replaced as substrings, in this order: "3.5" reads as 35,
    "fourteen" as 4, "no phones" as 1.

    Args:
        prediction: the model's answer.
        gold: a number, or a sentence that is read the same way.
        meta: ``answer`` (optional): the data's own sentence, read instead of ``gold``; the original misreads a few
            ("The number of phones is 3" as 1).

    Returns:
        A score of 0 or 1; unreadable without digits, and with more of them than Python reads (4,300; the original
        ends in an exception).
    """
    said, wanted = _count(stripped(prediction)), _count(str(meta.get("answer", gold)))
    return Score(float(said is not None and said == wanted), parsed=said is not None)
