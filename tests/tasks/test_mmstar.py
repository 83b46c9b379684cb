"""MMStar: options inside the question, an instruction without a full stop, two kinds of category."""

from pathlib import Path

from lmmcl.tasks.mmstar import make_row
from tests.tasks.rows import rows, text


def test_evaluation_adds_the_instruction_to_the_question_and_its_options(root: Path) -> None:
    row = rows("mmstar", "test", root)[1]
    assert text(row) == (
        "Where is the suitcase?\n"
        "Options: A: On the book., B: Under the cat., C: Under the bed., D: Beside the door.\n"
        "Answer with the option's letter from the given choices directly"
    )
    assert (row.id, row.answer, row.gold) == ("1", "B", "B")
    assert row.meta == {
        "category": "math",
        "l2_category": "geometry",
        "options": ["On the book.", "Under the cat.", "Under the bed.", "Beside the door."],
    }


def test_another_instruction_is_taken_away_and_unread_options_are_left_out() -> None:
    record = {"question": " Is it red? Please answer yes or no.", "answer": "A", "image": None, "index": 3}
    row = make_row({**record, "category": "math", "l2_category": "geometry"}, 0, "test")
    assert text(row) == "Is it red?\nAnswer with the option's letter from the given choices directly"
    assert "options" not in row.meta
