"""SEED-Bench as lmms-eval scores it: the first character."""

from collections.abc import Mapping
from typing import Any

from lmmcl.scorers.category import by_category
from lmmcl.scorers.lmms_eval.prediction import stripped
from lmmcl.scorers.score import Score

ABILITIES = (
    "scene understanding",
    "instance identity",
    "instance attributes",
    "instance location",
    "instances counting",
    "spatial relation",
    "instance interaction",
    "visual reasoning",
    "text understanding",
)
"""Categories of a question, as table 1 of the paper names them (arXiv 2307.16125)."""


def seedbench(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """1 when the first character is the gold letter in any case: "(B)" and "The answer is B" are wrong.

    Args:
        prediction: the model's answer.
        gold: the right option's letter.
        meta: ``category`` (optional): the part that the score is filed under.

    Returns:
        A score of 0 or 1; unreadable when the first character is no letter.
    """
    first = stripped(prediction)[:1]
    value = float(first.lower() == str(gold).lower().strip())
    return Score(value, parsed=first.isalpha(), parts=by_category(value, meta))
