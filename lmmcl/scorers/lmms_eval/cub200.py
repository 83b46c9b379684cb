"""CUB-200 as the study scores it: the first letter that stands alone."""

import re
from collections.abc import Mapping
from typing import Any

from lmmcl.scorers.lmms_eval.prediction import stripped
from lmmcl.scorers.score import Score

_ALONE = re.compile(r"\b([A-Za-z])\b")


def cub200(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """1 when the first single letter between word boundaries, else the first character, is the gold letter.

    "It's B" is read as "s".

    Args:
        prediction: the model's answer.
        gold: the right option's letter, in any case.
        meta: not used.

    Returns:
        A score of 0 or 1; unreadable when there is neither a letter alone nor one at the beginning.
    """
    said = stripped(prediction)
    alone = _ALONE.search(said)
    letter = alone[1] if alone else said[:1]
    return Score(float(letter.lower() == str(gold).lower()), parsed=letter.isalpha())
