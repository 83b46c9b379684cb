"""Text in pictures counts wherever the prediction has it."""

import pytest

from lmmcl.errors import UserError
from lmmcl.scorers import Score, substring


@pytest.mark.parametrize(
    ("said", "gold"),
    [
        ("STOP", "stop"), ("The sign says Stop.", ["go", "STOP"]),
        ("main\nstreet", "Main Street"), ("ＳＴＯＰ", "stop"),
        ("Main\u00a0 Street", "main street"),
    ],
)  # fmt: skip
def test_form_does_not_matter(said: str, gold: object) -> None:
    assert substring(said, gold, {}) == Score(1.0)


def test_content_does() -> None:
    assert substring("STAP", "stop", {}) == Score(0.0)


def test_formulas_keep_their_case_and_lose_their_spaces() -> None:
    meta = {"dataset": "HME100k"}
    assert substring("$x ^ 2$", "x^2", meta) == Score(1.0)
    assert substring("X^2", "x^2", meta) == Score(0.0)


def test_a_score_is_filed_under_its_category() -> None:
    assert substring("stop", "stop", {"category": "Doc-oriented VQA"}).parts == {"Doc-oriented VQA": 1.0}


def test_nothing_said_is_unreadable() -> None:
    assert substring(" \n", "stop", {}) == Score(0.0, parsed=False)


@pytest.mark.parametrize("gold", ["", [], None, ["stop", " "]])
def test_an_empty_gold_answer_is_named(gold: object) -> None:
    with pytest.raises(UserError, match="scorer substring"):
        substring("x", gold, {})
