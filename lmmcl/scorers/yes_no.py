"""Yes/no questions: the prediction affirms or denies."""

import re
from collections.abc import Mapping
from typing import Any

from lmmcl.errors import UserError
from lmmcl.scorers.normalise import without_lead_in
from lmmcl.scorers.score import Score

_READINGS = {"yes": True, "yeah": True, "yep": True, "true": True, "no": False, "nope": False, "false": False}
_READINGS["untrue"] = False
_DENIED = re.compile(r"(?:\b(?:not|never)|n't)\s+(?:\w+ly\s+)?(yes|true|false)\b", re.IGNORECASE)
_OPPOSITE = {"yes": " no", "true": " false", "false": " true"}
_NEITHER = re.compile(r"\bneither\s+(?:yes|no|true|false)\b", re.IGNORECASE)
_NO_ANSWER = re.compile(r"\bno\s+(?:idea|clue|doubt)\b", re.IGNORECASE)
_ANSWER = re.compile(rf"\b({'|'.join(_READINGS)})\b(?!-)", re.IGNORECASE)
_BOTH = re.compile(
    r"^\W*(?:yes|no)\s*(?:(?:and|or|/)\s*(?:yes|no)\b|,\s*(?:yes|no)\b(?!\s+\w))", re.IGNORECASE
)


def read_yes_no(text: str) -> bool | None:
    """True for yes, False for no, None when the text says neither or both.

    The first word decides ("No, there is one; yes, really" is a no); otherwise all mentions must agree, and
    "no" before a noun ("there is no cell wall") is not an answer to the question asked. What is denied counts as its
    opposite ("that is not true"), and "no idea" and "no doubt" are no denials.
    """
    answer = _NO_ANSWER.sub(" , ", without_lead_in(text))
    answer = _DENIED.sub(lambda match: _OPPOSITE[match[1].lower()], answer)
    if _NEITHER.search(answer) or _BOTH.match(answer):
        return None
    first = re.match(r"\W*([A-Za-z]+)", answer)
    if first and first[1].lower() in _READINGS:
        return _READINGS[first[1].lower()]
    readings = {
        _READINGS[match[1].lower()]
        for match in _ANSWER.finditer(answer)
        if not re.match(r"\s+\w", answer[match.end() :]) or match[1].lower() not in ("no", "true", "false")
    }
    return readings.pop() if len(readings) == 1 else None


def yes_no(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """1 when the prediction answers the question as the gold answer does.

    Args:
        prediction: the model's answer.
        gold: a bool, or "yes" or "no".
        meta: not used.

    Returns:
        A score of 0 or 1; unreadable when the prediction says neither or both.

    Raises:
        UserError: the gold answer is neither yes nor no.
    """
    wanted = gold if isinstance(gold, bool) else read_yes_no(str(gold))
    if wanted is None:
        raise UserError(
            f"scorer yes_no: the gold answer must be yes or no, got {gold!r}; correct the row or its scorer."
        )
    said = read_yes_no(prediction)
    return Score(float(said is wanted), parsed=said is not None)
