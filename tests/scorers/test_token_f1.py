"""Word F1 against a count done by hand."""

import pytest

from lmmcl.scorers import Score, token_f1


def by_hand(said: list[str], wanted: list[str]) -> float:
    left, shared = list(wanted), 0
    for word in said:
        if word in left:
            left.remove(word)
            shared += 1
    if shared == 0:
        return 0.0
    precision, recall = shared / len(said), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("red car", "red car"), ("red car", "blue car"), ("red red car", "red car car"), ("dog", "cat"),
        ("small red car parked", "red car"),
    ],
)  # fmt: skip
def test_it_equals_the_count_by_hand(said: str, wanted: str) -> None:
    assert token_f1(said, wanted, {}).value == pytest.approx(by_hand(said.split(), wanted.split()), abs=1e-15)


def test_articles_and_case_do_not_count() -> None:
    assert token_f1("The Red car.", "a red car", {}) == Score(1.0)


def test_the_nearest_gold_answer_counts() -> None:
    assert token_f1("red car", ["blue", "red car"], {}) == Score(1.0)


def test_nothing_said_is_unreadable() -> None:
    assert token_f1(" . ", "red", {}) == Score(0.0, parsed=False)
