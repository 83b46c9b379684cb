"""Yes and no are read as answers, not as words."""

import pytest

from lmmcl.errors import UserError
from lmmcl.scorers import Score, yes_no


@pytest.mark.parametrize(
    "said",
    [
        "yes",
        "Yes.",
        "YES",
        "Yes, there is no doubt",
        "The answer is yes",
        "Answer: Yes",
        "I say yes",
        "true",
        "Yes, no doubt",
        "No doubt, yes",
        "That is not false.",
        "It isn't entirely false",
    ],
)
def test_every_way_to_say_yes_is_yes(said: str) -> None:
    assert yes_no(said, "yes", {}) == Score(1.0)
    assert yes_no(said, "no", {}) == Score(0.0)


@pytest.mark.parametrize(
    "said",
    [
        "no", "No.", "No, it is a cat", "no tumour", "I think: no", "The answer is no.", "nope",
        "That is not true.", "It isn't true", "Not necessarily true", "The answer is not yes", "untrue",
    ],
)  # fmt: skip
def test_every_way_to_say_no_is_no(said: str) -> None:
    assert yes_no(said, "no", {}) == Score(1.0)


@pytest.mark.parametrize(
    "said",
    [
        "", "maybe", "yes or no", "Yes/No", "yes, no", "there is no cell wall", "notable", "yesterday", "No idea.",
        "It is neither true nor false", "not sure",
    ],
)  # fmt: skip
def test_neither_or_both_is_unreadable(said: str) -> None:
    assert yes_no(said, "no", {}) == Score(0.0, parsed=False)


def test_gold_may_be_a_bool() -> None:
    assert yes_no("No", False, {}) == Score(1.0)


def test_another_gold_answer_is_named() -> None:
    with pytest.raises(UserError, match="scorer yes_no"):
        yes_no("yes", "heart", {})
