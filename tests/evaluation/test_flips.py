"""Flips are counted example by example and told by cause."""

import pytest

from lmmcl.evaluation.flips import cause, flips
from lmmcl.evaluation.result import Example, TaskResult


def example(
    row: str, score: float, prediction: str = "dog", parsed: bool = True, critical: bool = False
) -> Example:
    return Example(row, prediction, "red cat", score, parsed, critical=critical)


@pytest.mark.parametrize(
    ("prediction", "parsed", "why"),
    [
        ("dog", True, "content"),
        ("???", False, "unreadable"),
        ("it is a Red cat.", True, "format"),
        ("red cat or dog", False, "format"),
        ("reddish cat", True, "content"),
    ],
)
def test_causes(prediction: str, parsed: bool, why: str) -> None:
    assert cause(example("a", 0.0, prediction, parsed)) == why


def test_any_of_several_gold_answers_counts() -> None:
    assert cause(Example("a", "I see 7", ["seven", "8"], 0.0)) == "format"


def test_shares_are_of_all_examples() -> None:
    before = TaskResult(
        "t", [example(row, score) for row, score in zip("abcdefgh", [1, 1, 1, 1, 0, 0, 0.5, 1], strict=True)]
    )
    after = TaskResult(
        "t",
        [
            example("a", 1.0),
            example("b", 0.0),
            example("c", 0.4, "a red cat!", critical=True),
            example("d", 0.0, "", parsed=False, critical=True),
            example("e", 1.0),
            example("f", 0.0),
            example("g", 0.5),
            example("h", 0.0),
        ],
    )
    found = flips(before, after)
    assert (found.n, found.lost, found.gained) == (8, 0.5, 0.125)
    assert found.causes == {"format": 0.125, "unreadable": 0.125, "content": 0.25}
    assert found.critical == ("c", "d")


def test_other_examples_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="different examples"):
        flips(TaskResult("t", [example("a", 1.0)]), TaskResult("t", [example("b", 1.0)]))
