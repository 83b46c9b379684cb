"""RealWorldQA as lmms-eval scores it: the option's letter, or the answer itself."""

from collections.abc import Mapping
from typing import Any

from lmmcl.scorers.lmms_eval.option_letter import option_letter
from lmmcl.scorers.lmms_eval.prediction import stripped
from lmmcl.scorers.score import Score


def realworldqa(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """1 when the chosen capital is the gold one of A to D; for another gold answer, when the texts are equal.

    Texts are compared in lower case, the prediction without white space and full stops at its end.

    Args:
        prediction: the model's answer.
        gold: the data's answer, a letter, a number or a word.
        meta: not used.

    Returns:
        A score of 0 or 1; unreadable when no letter is found or nothing is said.
    """
    said, wanted = stripped(prediction), str(gold).strip()
    if wanted.upper() in ("A", "B", "C", "D"):
        letter = option_letter(said)
        return Score(float(letter == wanted.upper()), parsed=bool(letter))
    plain = said.lower().strip().rstrip(".")
    return Score(float(plain == wanted.lower()), parsed=bool(plain))
