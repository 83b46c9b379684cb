"""Reading charts: a number may be off by 5 %, a text may not."""

import re
import unicodedata
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from lmmcl.scorers.category import by_category
from lmmcl.scorers.exact_match import accepted
from lmmcl.scorers.integer import read_number
from lmmcl.scorers.normalise import normalise
from lmmcl.scorers.score import Score

TOLERANCE = Fraction(5, 100)
_PER_CENT = re.compile(r"[%\uFF05]|\bper\s?cent\b", re.IGNORECASE)
# Digits with a sign, a currency or a percent sign and nothing else.
_NUMBER_ALONE = re.compile(r"[\W_]*\d[\d.,/]*\s*(?:%|per\s?cent)?[\s.]*", re.IGNORECASE)


def read_quantity(text: str) -> tuple[Fraction, bool] | None:
    """The one number that a text states and whether it is in per cent; None when it states none or several."""
    number = read_number(text)
    return None if number is None else (number, _PER_CENT.search(text) is not None)


def near(said: tuple[Fraction, bool], wanted: tuple[Fraction, bool]) -> bool:
    """Whether two quantities differ by at most 5 % of the wanted one.

    Where only one is in per cent, it may be meant by the other as it stands (45 for 45 %) or as a share (0.45).
    """
    (value, per_cent), (target, target_per_cent) = said, wanted
    factors = [Fraction(1)]
    if per_cent != target_per_cent:
        factors.append(Fraction(1, 100) if per_cent else Fraction(100))
    return any(abs(value * factor - target) <= TOLERANCE * abs(target) for factor in factors)


def _compared(prediction: str, answer: str) -> tuple[bool, bool]:
    """Whether the prediction is right for one answer, and whether it could be read."""
    said = normalise(prediction)
    number = _NUMBER_ALONE.fullmatch(unicodedata.normalize("NFKC", answer).strip())
    wanted = read_quantity(answer) if number else None
    if wanted is None:
        return bool(said) and said == normalise(answer), bool(said)
    stated = read_quantity(prediction)
    return stated is not None and near(stated, wanted), stated is not None


def relaxed_accuracy(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """1 when the prediction states the gold number up to 5 %, or the gold text in normal form (arXiv 2203.10244).

    "1,000", "$1000" and "The answer is 1000." are one number, "45%" is right for 45 and for 0.45, and zero must be
    met exactly.

    Args:
        prediction: the model's answer.
        gold: the right answer, or several of which any is right.
        meta: ``category`` (optional), ``human`` or ``augmented``: the part that the score is filed under.

    Returns:
        A score of 0 or 1; unreadable when nothing is said, or for a number when none or several are stated.

    Raises:
        UserError: there is no gold answer, or an empty one.
    """
    compared = [_compared(prediction, answer) for answer in accepted(gold, "relaxed_accuracy")]
    value = float(any(right for right, _ in compared))
    return Score(value, parsed=any(read for _, read in compared), parts=by_category(value, meta))
