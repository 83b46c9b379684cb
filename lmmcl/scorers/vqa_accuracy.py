"""Questions that ten people answered: how many of them the prediction agrees with."""

from collections.abc import Mapping, Sequence
from typing import Any

from lmmcl.errors import UserError
from lmmcl.scorers.agreement import agreement
from lmmcl.scorers.evalai import evalai
from lmmcl.scorers.exact_match import is_answer
from lmmcl.scorers.normalise import without_lead_in
from lmmcl.scorers.score import Score

_FEWEST = 4  # one is left out, three must agree


def _plain(text: str) -> str:
    """EvalAI's normal form of the answer itself, without emphasis or quotation marks around it."""
    return evalai(without_lead_in(text).strip("*_\"'“”’` \n"))


def vqa_accuracy(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """VQA accuracy (arXiv 1505.00468): the mean over the annotators left out of min(1, equal others / 3).

    Args:
        prediction: the model's answer; "The answer is stop." and "**STOP**" say stop.
        gold: the annotators' answers, ten in VQA and TextVQA, each as often as it was given.
        meta: not used.

    Returns:
        A score from 0 to 1; unreadable when the normal form is empty.

    Raises:
        UserError: the gold answer is no list of at least four texts: nothing could score 1.
    """
    answers = [] if isinstance(gold, str) or not isinstance(gold, Sequence) else list(gold)
    if len(answers) < _FEWEST or not all(map(is_answer, answers)):
        raise UserError(
            f"scorer vqa_accuracy: the gold answer must be the list of the annotators' answers, {_FEWEST} or more, "
            f"each a text, got {gold!r}; correct the row, or take exact_match or anls where any accepted answer is "
            "right."
        )
    said = _plain(prediction)
    value = agreement(said, [_plain(str(answer)) for answer in answers]) if said else 0.0
    return Score(value, parsed=bool(said))
