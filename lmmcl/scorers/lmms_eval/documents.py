"""DocVQA and InfographicVQA as lmms-eval scores them: likeness of letters, nothing below one half."""

from collections.abc import Mapping
from typing import Any

from lmmcl.scorers.edit_distance import edit_distance
from lmmcl.scorers.lmms_eval.prediction import accepted_answers, stripped
from lmmcl.scorers.score import Score

_THRESHOLD = 0.5


def _distance(said: str, answer: str) -> float:
    """Edit distance in lower case and single spaces over the longer text's length as it was written."""
    length = max(len(said.upper()), len(answer.upper()))
    edits = edit_distance(" ".join(said.lower().split()), " ".join(answer.lower().split()))
    return edits / length if length else 0.0


def docvqa(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """ANLS: 1 minus the smallest normalised edit distance to an accepted answer, 0 when below 0.5.

    Args:
        prediction: the model's answer.
        gold: the accepted answers; without any (where the original ends in an exception) the score is 0.
        meta: not used.

    Returns:
        0, or from 0.5 to 1; unreadable when it is empty.
    """
    said = stripped(prediction)
    answers = accepted_answers(gold)
    likeness = 1 - min((_distance(said, answer) for answer in answers), default=1.0)
    value = float(likeness if likeness >= _THRESHOLD else 0)
    return Score(value, parsed=bool(said or value))


def infovqa(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """The same as `docvqa`."""
    return docvqa(prediction, gold, meta)
