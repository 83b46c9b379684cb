"""ChartQA as lmms-eval scores it: numbers may be off by 5 %, texts must be equal."""

from collections.abc import Mapping
from typing import Any

from lmmcl.scorers.category import by_category
from lmmcl.scorers.lmms_eval.prediction import stripped
from lmmcl.scorers.score import Score

_TOLERANCE = 0.05


def _number(text: str) -> float | None:
    """What Python's float reads ("nan", "1_000" and other digits included); per cent are divided by 100."""
    per_cent = text.endswith("%")
    try:
        value = float(text.rstrip("%") if per_cent else text)
    except ValueError:
        return None
    return value / 100.0 if per_cent else value


def chartqa(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """1 when both are numbers within 5 % of the gold one, or when the texts are equal in lower case.

    A gold zero is compared as text: "0.0" for "0" is wrong.

    Args:
        prediction: the model's answer.
        gold: the right answer.
        meta: ``category`` (optional), ``human`` or ``augmented``: the part that the score is filed under.

    Returns:
        A score of 0 or 1; unreadable when it is empty.
    """
    said, wanted = stripped(prediction), str(gold)
    number, target = _number(said), _number(wanted)
    if number is not None and target:
        right = abs(number - target) / abs(target) <= _TOLERANCE
    else:
        right = said.lower() == wanted.lower()
    return Score(float(right), parsed=bool(said), parts=by_category(float(right), meta))
