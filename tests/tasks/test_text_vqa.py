"""TextVQA: the most common of ten answers is taught, all ten are accepted."""

from pathlib import Path

from lmmcl.data.task import Part
from lmmcl.tasks.text_vqa import make_row
from tests.tasks.rows import rows, source, text


def test_training_asks_the_question_as_it_stands_and_teaches_the_most_common_answer(root: Path) -> None:
    row = rows("text_vqa", "train", root)[0]
    assert text(row) == "what is the BRAND of phone 0?"
    assert row.answer == "nokia"
    assert row.gold == ["nokia"] * 6 + ["Nokia", "toshiba", "nokia phone", "unanswerable"]


def test_evaluation_writes_the_question_with_one_capital_letter(root: Path) -> None:
    row = rows("text_vqa", "test", root)[1]
    assert text(row) == "What is the brand of phone 1?\nAnswer the question using a single word or phrase."
    assert len(row.gold) == 10


def test_of_equally_common_answers_the_first_is_taught() -> None:
    record = {"question": "q?", "answers": ["b", "a", "a", "b", "c"], "question_id": 1, "image": None}
    assert make_row(record, 0, "train").answer == "b"


def test_questions_about_one_picture_stay_on_one_side_of_the_cut(root: Path) -> None:
    table = source("text_vqa", root).table("train")
    of = dict(zip(*table.columns(["question_id", "image_id"]).values(), strict=True))
    parts: tuple[Part, ...] = ("train", "dev")
    train, dev = ({of[int(row.id)] for row in rows("text_vqa", part, root)} for part in parts)
    assert dev
    assert not train & dev
