"""RealWorldQA: the question as it stands, scored by what its answer is."""

from pathlib import Path
from typing import Any

import pytest

from lmmcl.tasks.realworldqa import letter_or_word, make_row
from tests.tasks.rows import rows, text


def test_evaluation_asks_the_question_as_it_stands(root: Path) -> None:
    row = rows("realworldqa", "test", root)[0]
    assert text(row) == (
        "In which direction does the wheel face?\n\nA. Left\nB. Straight\nC. Right\n\n"
        "Please answer directly with only the letter of the correct option and nothing else."
    )
    assert (row.answer, row.gold, row.meta) == ("B", "B", {"options": ["Left", "Straight", "Right"]})


def test_a_question_without_options_has_none(root: Path) -> None:
    assert rows("realworldqa", "test", root)[1].meta == {}


def test_an_answer_that_is_no_option_is_compared_as_a_word() -> None:
    question = "Is it A. good or B. bad?"
    record = {"question": question, "answer": "Neither", "image": None}
    assert make_row(record, 0, "test").meta == {}


@pytest.mark.parametrize(
    ("prediction", "gold", "meta", "value"),
    [
        ("B. Straight", "B", {"options": ["Left", "Straight", "Right"]}, 1.0),
        ("Straight", "B", {"options": ["Left", "Straight", "Right"]}, 1.0),
        ("A", "B", {"options": ["Left", "Straight", "Right"]}, 0.0),
        ("It's B.", "B", {}, 1.0),
        ("fourteen", "14", {}, 1.0),
        ("4", "14", {}, 0.0),
        ("Yes, it is.", "Yes", {}, 1.0),
        ("no", "Yes", {}, 0.0),
        ("downhill.", "Downhill", {}, 1.0),
        ("uphill", "Downhill", {}, 0.0),
    ],
)
def test_letters_numbers_and_words_are_each_read_as_what_they_are(
    prediction: str, gold: str, meta: dict[str, Any], value: float
) -> None:
    assert letter_or_word(prediction, gold, meta).value == value
