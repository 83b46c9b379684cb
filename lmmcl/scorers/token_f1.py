"""Longer free answers: how many words the prediction shares with a gold answer."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from lmmcl.scorers.exact_match import accepted
from lmmcl.scorers.normalise import tokens
from lmmcl.scorers.score import Score


def f1(said: list[str], wanted: list[str]) -> float:
    """Harmonic mean of precision and recall over words, each counted as often as it occurs."""
    shared = sum((Counter(said) & Counter(wanted)).values())
    return 2 * shared / (len(said) + len(wanted)) if shared else 0.0


def token_f1(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """The best word F1 with a gold answer, over bags of normalised words (SQuAD, arXiv 1606.05250).

    Args:
        prediction: the model's answer.
        gold: the right answer, or several of which the nearest counts.
        meta: not used.

    Returns:
        A score from 0 to 1; unreadable when the prediction has no word.

    Raises:
        UserError: there is no gold answer, or an empty one.
    """
    said = tokens(prediction)
    best = max(f1(said, tokens(answer)) for answer in accepted(gold, "token_f1"))
    return Score(best, parsed=bool(said))
