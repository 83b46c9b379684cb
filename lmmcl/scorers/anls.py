"""Reading documents: how like the prediction is to an accepted answer, letter by letter."""

from collections.abc import Mapping
from typing import Any

from lmmcl.scorers.edit_distance import edit_distance
from lmmcl.scorers.exact_match import accepted
from lmmcl.scorers.normalise import without_lead_in
from lmmcl.scorers.score import Score

THRESHOLD = 0.5


def _plain(text: str) -> str:
    return " ".join(without_lead_in(text).casefold().split())


def likeness(said: str, answer: str) -> float:
    """1 minus the edit distance over the longer text's length; 0 when that is below one half."""
    like = 1.0 - edit_distance(said, answer) / max(len(said), len(answer), 1)
    return like if like >= THRESHOLD else 0.0


def anls(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """Average normalised Levenshtein similarity (arXiv 1905.13648), threshold 0.5, of the nearest accepted answer.

    Case and white space do not count, neither does an opening such as "The answer is".

    Args:
        prediction: the model's answer.
        gold: the right answer, or several of which the nearest counts.
        meta: not used.

    Returns:
        A score of 0 or from 0.5 to 1; unreadable when nothing is said.

    Raises:
        UserError: there is no gold answer, or an empty one.
    """
    answers = [_plain(answer) for answer in accepted(gold, "anls")]
    said = _plain(prediction)
    # A text more than twice as long as an answer is unlike it: no need to measure how unlike.
    near = [answer for answer in answers if len(said) <= 2 * len(answer)]
    return Score(max((likeness(said, answer) for answer in near), default=0.0), parsed=bool(said))
