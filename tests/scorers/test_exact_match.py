"""Short answers are compared in normal form."""

import pytest

from lmmcl.errors import UserError
from lmmcl.scorers import Score, exact_match


@pytest.mark.parametrize(
    ("said", "gold"),
    [
        ("Red", "red"), ("the red car.", "red car"), ("Answer: red", "red"),
        ("The answer is: red", "red"), ("two", "2"),
        ("t-shirt", "T shirt"), ("1,000", "1000"), ("3.5", "3.5"), ("dog's", "dogs"),
        ("  red  \n", "red"), ("A", "a"),
        ("blue", ["red", "blue"]), ("12 %", "12%"), ("The answer is −5.", "-5"), ("-$5", "$-5"), (".5", "0.5"),
        ("5-3", "5 3"), ("10%-12%", "10% - 12%"), ("2014-15", "2014 15"), ("-.5", "-0.5"), ("...5", "5"),
    ],
)  # fmt: skip
def test_form_does_not_matter(said: str, gold: object) -> None:
    assert exact_match(said, gold, {}) == Score(1.0)


@pytest.mark.parametrize(
    ("said", "gold"),
    [
        ("red", "reddish"), ("35", "3.5"), ("not red", "red"), ("red", ["blue", "green"]),
        ("5", "-5"), ("(−3 °C)", "3 °C"), ("$5", "-$5"), (".5", "5"), ("-5", "-.5"),
    ],
)  # fmt: skip
def test_content_does(said: str, gold: object) -> None:
    assert exact_match(said, gold, {}) == Score(0.0)


@pytest.mark.parametrize("said", ["", "  ", "...", "\n"])
def test_nothing_said_is_unreadable(said: str) -> None:
    assert exact_match(said, "red", {}) == Score(0.0, parsed=False)


@pytest.mark.parametrize(
    "gold", ["", [], None, ["red", " "], ["red", None], ["red", float("nan")], {"text": ["red"]}, [["red"]]]
)
def test_an_empty_gold_answer_is_named(gold: object) -> None:
    with pytest.raises(UserError, match="scorer exact_match"):
        exact_match("red", gold, {})
