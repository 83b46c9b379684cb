"""MMStar as lmms-eval scores it: the option's letter, filed under its category."""

from collections.abc import Mapping
from typing import Any

from lmmcl.scorers.category import by_category
from lmmcl.scorers.lmms_eval.option_letter import option_letter
from lmmcl.scorers.lmms_eval.prediction import stripped
from lmmcl.scorers.score import Score


def mmstar(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """1 when the chosen capital is the gold one.

    lmms-eval's "average", the task's score, is the mean over the 18 fine categories of the means in each. The parts
    are the six coarse ones.

    Args:
        prediction: the model's answer.
        gold: the right option's letter, A to D.
        meta: ``category`` (optional): the part that the score is filed under.

    Returns:
        A score of 0 or 1; unreadable when no letter is found.
    """
    letter = option_letter(stripped(prediction))
    value = float(letter == str(gold).strip().upper())
    return Score(value, parsed=bool(letter), parts=by_category(value, meta))
