"""SEED-Bench: its picture part."""

from pathlib import Path

from tests.tasks.conftest import ROWS
from tests.tasks.rows import rows, source, text


def test_evaluation_letters_four_choices(root: Path) -> None:
    row = rows("seedbench", "test", root)[1]
    assert text(row) == (
        "How many towels are in the image?\nA. One\nB. Two\nC. Three\nD. Four\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert (row.id, row.answer, row.gold) == ("101670", "B", "B")
    assert row.meta == {
        "options": ["One", "Two", "Three", "Four"],
        "category": "instance identity",
        "data_type": "image",
    }


def test_questions_about_videos_are_left_out(root: Path) -> None:
    kinds = source("seedbench", root).table("test").columns(["data_type"])["data_type"]
    assert len(kinds) == ROWS
    kept = len(rows("seedbench", "test", root)) + len(rows("seedbench", "dev", root))
    assert kept == kinds.count("image") < ROWS
