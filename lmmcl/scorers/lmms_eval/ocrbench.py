"""OCRBench as lmms-eval scores it: an accepted answer stands in the prediction."""

from collections.abc import Mapping
from typing import Any

from lmmcl.scorers.category import by_category
from lmmcl.scorers.lmms_eval.prediction import accepted_answers, stripped
from lmmcl.scorers.score import Score

# Full-width forms of ASCII, and the ideographic space.
_HALF_WIDTH = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
_FORMULAS = "HME100k"


def _plain(text: str) -> str:
    return text.translate(_HALF_WIDTH).lower().strip().replace("\n", " ")


def _formula(text: str) -> str:
    return text.strip().replace("\n", "").replace(" ", "")


def ocrbench(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """1 when an accepted answer is a substring of the prediction, in lower case; formulas in their case, unspaced.

    Args:
        prediction: the model's answer.
        gold: the accepted answers.
        meta: ``dataset`` (``HME100k`` holds formulas), and ``category`` (optional): the part that the score is filed
            under.

    Returns:
        A score of 0 or 1; unreadable when it is empty.
    """
    plain = _formula if meta.get("dataset") == _FORMULAS else _plain
    said = plain(stripped(prediction))
    answers = accepted_answers(gold)
    value = float(any(plain(answer) in said for answer in answers))
    return Score(value, parsed=bool(said or value), parts=by_category(value, meta))
