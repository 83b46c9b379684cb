"""TextVQA as lmms-eval scores it: agreement with ten annotators in EvalAI's normal form."""

from collections.abc import Mapping
from typing import Any

from lmmcl.scorers.agreement import agreement
from lmmcl.scorers.evalai import evalai
from lmmcl.scorers.lmms_eval.prediction import accepted_answers, stripped
from lmmcl.scorers.score import Score


def text_vqa(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """VQA accuracy of the answer: the mean over nine of the ten annotations of min(1, equal ones / 3).

    Args:
        prediction: the model's answer.
        gold: the annotators' answers; without any the score is 0 (for an empty list the original ends in an exception).
        meta: not used.

    Returns:
        From 0 to 1; unreadable when the normal form is empty.
    """
    said = evalai(stripped(prediction))
    answers = accepted_answers(gold)
    value = agreement(said, [evalai(answer) for answer in answers])
    return Score(value, parsed=bool(said or value))
