"""ScienceQA as lmms-eval scores it: the letter alone, or a capital with a full stop at the beginning."""

from collections.abc import Mapping
from typing import Any

from lmmcl.scorers.lmms_eval.prediction import stripped
from lmmcl.scorers.score import Score


def scienceqa(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """1 when the answer is the gold letter in any case, or begins with it as a capital and a full stop.

    "(B)" and "b." are wrong.

    Args:
        prediction: the model's answer.
        gold: the right option's letter.
        meta: not used.

    Returns:
        A score of 0 or 1; unreadable in any other form.
    """
    said, wanted = stripped(prediction), str(gold).strip().lower()
    if said.lower() == wanted:
        return Score(1.0)
    if said[:1].isupper() and said[1:2] == ".":
        return Score(float(said[0].lower() == wanted))
    return Score(0.0, parsed=len(said) == 1 and said.isalpha())
