"""Reading text in pictures: an accepted answer stands somewhere in the prediction."""

import unicodedata
from collections.abc import Mapping
from typing import Any

from lmmcl.scorers.category import by_category
from lmmcl.scorers.exact_match import accepted
from lmmcl.scorers.score import Score

_FORMULAS = "HME100k"  # OCRBench's data of handwritten formulas


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _formula(text: str) -> str:
    return "".join(text.split())


def substring(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """1 when the prediction contains an accepted answer (OCRBench, arXiv 2305.07895).

    Case, the width of characters and the kind of white space do not count; in formulas case does and white space
    does not.

    Args:
        prediction: the model's answer.
        gold: the right answer, or several of which any is right.
        meta: ``dataset`` (optional): ``HME100k`` holds formulas; ``category`` (optional): the part that the score is
            filed under.

    Returns:
        A score of 0 or 1; unreadable when nothing is said.

    Raises:
        UserError: there is no gold answer, or an empty one.
    """
    plain = _formula if meta.get("dataset") == _FORMULAS else _plain
    said = plain(prediction)
    value = float(any(plain(answer) in said for answer in accepted(gold, "substring")))
    return Score(value, parsed=bool(said), parts=by_category(value, meta))
