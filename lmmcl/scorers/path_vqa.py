"""Pathology questions: yes or no where that is the answer, else the term."""

from collections.abc import Mapping
from typing import Any

from lmmcl.scorers.exact_match import exact_match
from lmmcl.scorers.normalise import normalise
from lmmcl.scorers.score import Score
from lmmcl.scorers.token_f1 import token_f1
from lmmcl.scorers.yes_no import yes_no


def path_vqa(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """Whether yes or no is right where the gold answer is one of them, else whether the term is, in normal form.

    Args:
        prediction: the model's answer.
        gold: the right answer.
        meta: not used.

    Returns:
        A score of 0 or 1 with the parts ``exact_match`` and ``token_f1``, and ``yes_no`` where it applies; unreadable
        when neither yes nor no is said, or no term at all.

    Raises:
        UserError: there is no gold answer, or an empty one.
    """
    term = exact_match(prediction, gold, meta)
    parts = {"exact_match": term.value, "token_f1": token_f1(prediction, gold, meta).value}
    if normalise(str(gold)) not in ("yes", "no"):
        return Score(term.value, term.parsed, parts)
    said = yes_no(prediction, str(gold), meta)
    return Score(said.value, said.parsed, parts | {"yes_no": said.value})
