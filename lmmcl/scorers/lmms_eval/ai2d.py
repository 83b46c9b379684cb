"""AI2D as lmms-eval scores it: the letter before a leading full stop, else the whole answer."""

import re
import string
from collections.abc import Mapping
from typing import Any

from lmmcl.scorers.lmms_eval.prediction import stripped
from lmmcl.scorers.score import Score

_LEADING_LETTER = re.compile(r"\s*([A-Z])\.")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _as_numpy_compares(text: str) -> str:
    """Lower case, no ASCII punctuation, in the fixed width of a NumPy string.

    The original compares NumPy arrays of texts: NUL characters at the end are dropped, and a lower case longer than
    the text ("İ") is cut at the text's length.
    """
    lower = text.rstrip("\0").lower()[: max(len(text), 1)].rstrip("\0")
    return lower.translate(_WITHOUT_PUNCTUATION).rstrip("\0")


def ai2d(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """1 when the answer begins with the gold letter and a full stop, or is the letter alone up to punctuation.

    Only a capital is read before the full stop; any case is right alone. "It's B" is wrong, "B. foo" right.

    Args:
        prediction: the model's answer; None (where the original ends in an exception) is an empty one.
        gold: the right option's letter.
        meta: not used.

    Returns:
        A score of 0 or 1; unreadable when the answer is no single letter.
    """
    found = _LEADING_LETTER.match(prediction or "")
    said = _as_numpy_compares(found[1] if found else stripped(prediction))
    return Score(float(said == _as_numpy_compares(str(gold))), parsed=len(said) == 1 and said.isalpha())
