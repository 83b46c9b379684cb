"""ScienceQA: the hint before the question, two to five lettered choices."""

from pathlib import Path

from tests.tasks.conftest import ROWS
from tests.tasks.rows import rows, text


def test_the_hint_is_the_context(root: Path) -> None:
    row = rows("scienceqa", "test", root)[1]
    assert text(row) == (
        "Context: The map shows the states.\nWhich of these states is farthest north?\n"
        "A. West Virginia\nB. Louisiana\nC. Arizona\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert (row.answer, row.gold) == ("B", "B")
    assert row.meta == {
        "options": ["West Virginia", "Louisiana", "Arizona"],
        "category": "Geography",
        "subject": "social science",
    }


def test_without_a_hint_there_is_no_context(root: Path) -> None:
    assert text(rows("scienceqa", "test", root)[0]) == (
        "Which of these states is farthest north?\nA. West Virginia\nB. Louisiana\n"
        "Answer with the option's letter from the given choices directly."
    )


def test_dev_is_the_validation_split_and_test_is_whole(root: Path) -> None:
    assert len(rows("scienceqa", "dev", root)) == len(rows("scienceqa", "test", root)) == ROWS
