"""Numbers of charts may be off by 5 %, whatever their form."""

import pytest

from lmmcl.errors import UserError
from lmmcl.scorers import Score, relaxed_accuracy


@pytest.mark.parametrize(
    "said",
    [
        "1000", "1,000", "1000.0", "$1000", "1000 dollars", "The answer is 1000.", "It is 1000", "1 thousand",
        "1050",
        "950", "one thousand", "1000\n", "１０００", "+1000", "**1000**", "20 + 980 = 1000", "Answer: 1,049.99",
    ],
)  # fmt: skip
def test_a_number_is_right_within_5_per_cent_in_every_form(said: str) -> None:
    assert relaxed_accuracy(said, "1000", {}) == Score(1.0)
    assert relaxed_accuracy(said, 1000, {}) == relaxed_accuracy(said, "1,000", {}) == Score(1.0)


@pytest.mark.parametrize("said", ["1050.01", "949.9", "-1000", "10000", "1", "0"])
def test_beyond_it_is_wrong(said: str) -> None:
    assert relaxed_accuracy(said, "1000", {}) == Score(0.0)


@pytest.mark.parametrize(
    "said", ["", "many", "1000 or 2000", "nan", "inf", "1" * 5000, "between 900 and 1100"]
)
def test_no_number_or_several_are_unreadable_where_one_is_asked(said: str) -> None:
    assert relaxed_accuracy(said, "1000", {}) == Score(0.0, parsed=False)


@pytest.mark.parametrize(
    ("said", "gold", "right"),
    [
        ("45%", "45", True), ("45", "45%", True), ("0.45", "45%", True),
        ("45%", "0.45", True), ("45 per cent", "45%", True),
        ("45％", "45", True), ("45 %", "45%", True), ("0.45", "45", False),
        ("0.45%", "45%", False), ("48%", "45%", False),
    ],
)  # fmt: skip
def test_per_cent_may_be_written_or_meant(said: str, gold: str, right: bool) -> None:
    assert relaxed_accuracy(said, gold, {}) == Score(float(right))


def test_zero_must_be_met_exactly() -> None:
    assert relaxed_accuracy("0.0", "0", {}) == relaxed_accuracy("none", "0", {}) == Score(1.0)
    assert relaxed_accuracy("0.001", "0", {}) == Score(0.0)


@pytest.mark.parametrize(
    ("said", "gold", "right"),
    [
        ("yes", "Yes", True), ("The answer is Dark Blue.", "dark blue", True), ("blue", "dark blue", False),
        ("July 4", "July 4", True), ("July 5", "July 4", False), ("Q3", "q3", True), ("2014-15", "2014-15", True),
    ],
)  # fmt: skip
def test_a_text_must_be_equal_in_normal_form(said: str, gold: str, right: bool) -> None:
    assert relaxed_accuracy(said, gold, {}) == Score(float(right))


def test_any_of_several_answers_is_right() -> None:
    assert relaxed_accuracy("104", ["3", "100"], {}) == Score(1.0)


def test_a_score_is_filed_under_its_category() -> None:
    assert relaxed_accuracy("5", "5", {"category": "human"}).parts == {"human": 1.0}


@pytest.mark.parametrize("gold", ["", [], None])
def test_an_empty_gold_answer_is_named(gold: object) -> None:
    with pytest.raises(UserError, match="scorer relaxed_accuracy"):
        relaxed_accuracy("5", gold, {})
