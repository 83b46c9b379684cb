"""ChartQA: a single word, and who wrote the question."""

from pathlib import Path

from tests.tasks.rows import rows, text


def test_evaluation_asks_for_a_single_word(root: Path) -> None:
    row = rows("chartqa", "test", root)[2]
    assert text(row) == "What is the value of bar 2?\nAnswer the question with a single word."
    assert (row.answer, row.gold) == ("0.57", "0.57")


def test_categories_are_human_and_augmented(root: Path) -> None:
    assert [row.meta["category"] for row in rows("chartqa", "test", root)[:2]] == ["human", "augmented"]
