"""AI2D: lettered options."""

from pathlib import Path

from tests.tasks.rows import rows, text


def test_evaluation_letters_the_options(root: Path) -> None:
    row = rows("ai2d", "test", root)[2]
    assert text(row) == (
        "What eats the grass?\nA. grass\nB. rabbit\nC. fox\nD. both B and C\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert (row.answer, row.gold) == ("C", "C")
    assert row.meta == {"options": ["grass", "rabbit", "fox", "both B and C"]}
