"""Counting: the prediction states the gold integer, in digits or in words."""

import re
import unicodedata
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from lmmcl.errors import UserError
from lmmcl.scorers.normalise import without_lead_in
from lmmcl.scorers.numbers import mentions
from lmmcl.scorers.score import Score

_EXPLICIT = re.compile(r"(?:=|\btotal(?:\s+of|\s+is)?\s*:?|\banswer\s*(?:is|:|=))\s*", re.IGNORECASE)
_IN_TOTAL = re.compile(r"\s+(?:in\s+total|in\s+all|altogether)\b", re.IGNORECASE)
_CLAUSE = re.compile(r"[,;:.](?=\s)|[\n=]")
_ASIDE = re.compile(r"[,;:.](?=\s)|[\n(]|\b(?:because|since|as|of|where|with|including)\b", re.IGNORECASE)
_DENIED = re.compile(r"\W*not\b", re.IGNORECASE)
_NO_ONE = re.compile(r"\b(?:no|not)[\s-]+one\b|(?<=n't)\s+one\b", re.IGNORECASE)
# "No, I see" refuses or denies; "no phones" and "there are none" count.
_NOTHING = re.compile(
    r"\b(?:none|nothing|nobody|nil)\b|\bno\s+[a-z]+"
    r"|(?:n't|\bnot)\s+(?:(?:see|find|show|contain)\s+)?(?:any|a\s+single)\b",
    re.IGNORECASE,
)


def _in_total(text: str) -> Fraction | None:
    """The number right before the first "in total", unless its clause states others ("3 or 4 in total")."""
    match = _IN_TOTAL.search(text)
    clause = _CLAUSE.split(text[: match.start()])[-1] if match else ""
    stated = mentions(clause)
    return stated[0] if len(stated) == 1 and mentions(clause.split()[-1]) else None


def _named(text: str) -> Fraction | None:
    """The number that the last total or answer named as such states, unless what names it states others ("3 or 4")."""
    for clause in _ASIDE.split(_EXPLICIT.split(text)[-1]) if _EXPLICIT.search(text) else ():
        if stated := mentions(clause):
            return stated[0] if len(set(stated)) == 1 and not _DENIED.match(clause) else None
    return None


def read_number(text: str) -> Fraction | None:
    """The one number a text states, or None when it states none or several different ones.

    "One" beside another number is a pronoun ("5, the one on the left is small"); "no phones" and "none" are
    0; a total ("a total of 5", "5 in total") or an answer named as such wins over its summands.
    """
    without_no_one = _NO_ONE.sub(" none", without_lead_in(text))
    whole = _NO_ONE.sub(" none", unicodedata.normalize("NFKC", text))
    total = _in_total(without_no_one)
    total = _named(whole) if total is None else total
    if total is not None:
        return total
    found = mentions(without_no_one)
    if len(set(found)) > 1:
        without_pronoun = re.sub(r"\bone\b(?!-)", " , ", without_no_one, flags=re.IGNORECASE)
        found = mentions(without_pronoun)
    if not found and _NOTHING.search(without_no_one):
        return Fraction(0)
    return found[0] if len(set(found)) == 1 else None


def integer(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """1 when the prediction states the gold integer.

    A fraction ("3.5") is read as itself and is therefore wrong, never as its digits; several different
    numbers, or none, count as unreadable.

    Args:
        prediction: the model's answer.
        gold: an int, or a text that states one.
        meta: not used.

    Returns:
        A score of 0 or 1.

    Raises:
        UserError: the gold answer is not an integer.
    """
    wanted = None if gold is None or isinstance(gold, bool) else read_number(str(gold))
    if wanted is None or wanted.denominator != 1:
        raise UserError(
            f"scorer integer: the gold answer must state one integer, got {gold!r}; "
            "correct the row or its scorer."
        )
    stated = read_number(prediction)
    return Score(float(stated == wanted), parsed=stated is not None)
