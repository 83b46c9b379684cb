"""Counts are read as numbers, not as digits."""

import pytest

from lmmcl.errors import UserError
from lmmcl.scorers import Score, integer


@pytest.mark.parametrize(
    ("said", "count"),
    [
        ("4", 4), ("4.", 4), (" 4\n", 4), ("four", 4), ("Four.", 4), ("fourteen", 14),
        ("Fourteen birds", 14), ("14", 14),
        ("twenty-one", 21), ("twenty one", 21), ("one hundred and five", 105),
        ("two thousand three hundred", 2300),
        ("no phones", 0), ("There are no phones.", 0), ("none", 0), ("zero", 0), ("There aren't any", 0),
        ("I don't see any birds", 0),
        ("no one", 0),
        ("There are 7 birds in this image.", 7), ("The answer is seven", 7), ("Answer: 7", 7),
        ("1,200", 1200),
        ("3.0", 3), ("a dozen", 12), ("two dozen", 24), ("half a dozen", 6),
        ("5, the one on the left is small", 5),
        ("3 red and 2 blue, a total of 5", 5), ("3 + 2 = 5", 5), ("a hundred", 100),
        ("2 dogs and 3 cats, 5 in total", 5), ("5 in total, one of them black", 5), ("twenty one altogether", 21),
        ("4 or rather four", 4), ("-3", -3),
        ("there are 2 of the 3D glasses", 2), ("one", 1), ("No, 3", 3), ("No. 3", 3),
        ("The answer is 5 because there are 3 red and 2 blue.", 5), ("Answer: 5 (3 red + 2 blue)", 5),
        ("So the answer is 5 of 7", 5), ("minus three", -3), ("negative 3", -3), ("There isn't one", 0), ("no-one", 0),
    ],
)  # fmt: skip
def test_the_stated_number_is_read(said: str, count: int) -> None:
    assert integer(said, count, {}) == Score(1.0)
    assert integer(said, count + 1, {}) == Score(0.0)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "many",
        "No",
        "No, I cannot say",
        "3 or 4",
        "2-3",
        "3 red and 2 blue",
        "2 red and 4 blue in total",
        "3 or 4 in total",
        "The answer is 3 or 4",
        "So the answer is 3 or 4",
        "The answer is not 3, it is 4",
        "the twenty-first",
        "the second",
        "1/0",
    ],
)
def test_no_number_or_several_are_unreadable(said: str) -> None:
    assert integer(said, 3, {}) == Score(0.0, parsed=False)


@pytest.mark.parametrize(
    ("said", "misread"),
    [
        ("3.5", 35),
        ("3.5", 3),
        ("fourteen", 4),
        ("no phones", 1),
        ("7/2", 7),
        ("three and a half", 3),
        ("minus 3", 3),
    ],
)
def test_the_original_misreadings_are_absent(said: str, misread: int) -> None:
    assert integer(said, misread, {}) == Score(0.0)


@pytest.mark.parametrize(("gold", "count"), [("12", "12"), ("There are twelve birds.", "12"), (12, "twelve")])
def test_gold_may_be_a_number_or_a_sentence(gold: object, count: str) -> None:
    assert integer(count, gold, {}) == Score(1.0)


@pytest.mark.parametrize("gold", ["", "many", "3.5", None])
def test_a_gold_answer_without_an_integer_is_named(gold: object) -> None:
    with pytest.raises(UserError, match="scorer integer"):
        integer("3", gold, {})
