"""Answers side by side: what is the same is said once, what is new is marked."""

from pathlib import Path

from lmmcl.report.answers import new_words, shortened, spells
from lmmcl.report.run_data import RunData, Sample
from tests.report.fake_run import fake_run

MATRIX, _ = fake_run(stages=3, n=20)
RUN = RunData(Path("run"), MATRIX, None)


def sample(*answers: tuple[int, str, float]) -> Sample:
    return Sample("chart", "1", "What?", "a dog", None, answers)


def test_stages_that_said_the_same_stand_together() -> None:
    found = spells(RUN, sample((0, "a dog", 1), (1, "a  dog", 1), (2, "a cat", 0), (3, "a dog", 1)))
    assert [(one.first, one.last, one.right, one.changed) for one in found] == [
        ("base", "species", True, False),
        ("count", "", False, True),
        ("tissue", "", True, True),
    ]


def test_only_new_words_are_marked() -> None:
    assert new_words("a red dog left of a box", "a blue dog right of a box") == [
        ("a ", False),
        ("blue ", True),
        ("dog ", False),
        ("right ", True),
        ("of a box", False),
    ]


def test_the_parts_make_the_answer_again() -> None:
    before, after = "one two three", "zero one three four"
    assert "".join(text for text, _ in new_words(before, after)) == after
    assert new_words("same words", "same words") == [("same words", False)]


def test_an_empty_answer_is_visible_and_a_long_one_is_cut() -> None:
    assert shortened(" \n ") == "(no answer)"
    assert len(shortened("x" * 1000)) == 320 and shortened("x" * 1000).endswith("…")
