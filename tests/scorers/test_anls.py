"""Likeness of letters against a distance found by search."""

from functools import cache

import pytest

from lmmcl.errors import UserError
from lmmcl.scorers import Score, anls
from lmmcl.scorers.edit_distance import edit_distance


@cache
def by_search(first: str, second: str) -> int:
    if not first or not second:
        return len(first) + len(second)
    if first[0] == second[0]:
        return by_search(first[1:], second[1:])
    return 1 + min(
        by_search(first[1:], second), by_search(first, second[1:]), by_search(first[1:], second[1:])
    )


WORDS = [
    "",
    "a",
    "ab",
    "kitten",
    "sitting",
    "flaw",
    "lawn",
    "receipt",
    "recipe",
    "naïve",
    "naive",
    "2019",
    "2091",
]


@pytest.mark.parametrize("first", WORDS)
def test_the_distance_equals_the_one_found_by_search(first: str) -> None:
    assert [edit_distance(first, second) for second in WORDS] == [by_search(first, word) for word in WORDS]


@pytest.mark.parametrize(
    ("said", "gold", "value"),
    [
        ("July 4", "July 4", 1.0), ("july  4\n", "July 4", 1.0), ("The answer is: July 4", "July 4", 1.0),
        ("July 5", "July 4", 5 / 6), ("abcd", "ab", 0.5), ("abcde", "ab", 0.0), ("x", "y", 0.0),
        ("cat", ["dog", "cats", "ca"], 0.75), ("ＡＢ", "ab", 1.0),
    ],
)  # fmt: skip
def test_likeness_of_the_nearest_answer_counts_from_one_half_on(
    said: str, gold: object, value: float
) -> None:
    score = anls(said, gold, {})
    assert score.value == pytest.approx(value) and score.parsed


@pytest.mark.parametrize("said", ["", " ", "\n"])
def test_nothing_said_is_unreadable(said: str) -> None:
    assert anls(said, "July 4", {}) == Score(0.0, parsed=False)


@pytest.mark.parametrize("gold", ["", [], None])
def test_an_empty_gold_answer_is_named(gold: object) -> None:
    with pytest.raises(UserError, match="scorer anls"):
        anls("x", gold, {})
