"""CountBench: how many."""

from pathlib import Path

from tests.tasks.rows import rows, text


def test_evaluation_asks_for_a_number_only(root: Path) -> None:
    row = rows("countbench", "test", root)[3]
    assert text(row) == "How many cups are there in the image?\nAnswer the question with number only."
    assert (row.answer, row.gold) == ("5", 5)
