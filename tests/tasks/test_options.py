"""Options that a question lists in its own text."""

import pytest

from lmmcl.tasks.options import written_options


@pytest.mark.parametrize(
    "question",
    [
        "Where?\nA. left\nB. right, of it\nC. above",
        "Where?\n\nA. left\nB. right, of it\nC. above\n\nPlease answer directly.",
        "Where?\nOptions: A: left, B: right, of it, C: above",
        "Where?\nOptions: A: left, B: right, of it, C: above\nAnswer.",
        "Where?\nChoices:\n(A) left\n(B) right, of it\n(C) above",
        "As Figure A. shows, where?\nA. left\nB. right, of it\nC. above",
        "Hint: give the letter, e.g., A, B, C, D.\nQuestion: Where?\n(A) left\n(B) right, of it\n(C) above",
    ],
)
def test_options_are_read_in_every_form(question: str) -> None:
    assert written_options(question) == ["left", "right, of it", "above"]


def test_full_stops_stay() -> None:
    assert written_options("Which?\nOptions: A: On it., B: Under it.") == ["On it.", "Under it."]


def test_twenty_six_options_end_with_z() -> None:
    names = [f"bird {place}" for place in range(26)]
    lines = "\n".join(f"{chr(65 + place)}. {name}" for place, name in enumerate(names))
    assert written_options(f"Which?\n{lines}\nAnswer with the letter.") == names


@pytest.mark.parametrize("question", ["How many?", "Is vitamin A. good?", "A. only one", ""])
def test_without_two_options_there_are_none(question: str) -> None:
    assert written_options(question) is None
