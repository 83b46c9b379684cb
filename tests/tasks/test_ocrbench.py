"""OCRBench: the question alone, answers in a list, formulas read in their own way."""

from pathlib import Path

from tests.tasks.rows import rows, text


def test_evaluation_asks_the_question_alone(root: Path) -> None:
    row = rows("ocrbench", "test", root)[0]
    assert text(row) == "what is written in the image?"
    assert (row.answer, row.gold) == ("CENTRE", ["CENTRE"])
    assert row.meta == {"category": "Regular Text Recognition", "dataset": "IIIT5K"}


def test_the_source_of_a_formula_is_told_to_the_scorer(root: Path) -> None:
    assert rows("ocrbench", "test", root)[1].meta["dataset"] == "HME100k"
