"""The row of one question."""

import pytest

from lmmcl.errors import UserError
from lmmcl.tasks.question import lettered, question_row, without_place


def test_pictures_come_before_the_text() -> None:
    row = question_row("1", "What?", "This.", [print, repr], "This.", {"category": "x"})
    assert row.messages[0]["content"] == [
        {"type": "image"},
        {"type": "image"},
        {"type": "text", "text": "What?"},
    ]
    assert list(row.images) == [print, repr]
    assert (row.answer, row.meta) == ("This.", {"category": "x"})


def test_a_row_without_a_picture_has_only_text() -> None:
    row = question_row("1", "What?", "This.", None, "This.")
    assert [part["type"] for part in row.messages[0]["content"]] == ["text"]
    assert row.images == ()


@pytest.mark.parametrize("answer", ["", " \n"])
def test_an_empty_answer_is_an_error(answer: str) -> None:
    with pytest.raises(UserError, match="row 7: an answer must not be empty"):
        question_row("7", "What?", answer, None, answer)


def test_options_are_lettered_from_a() -> None:
    assert lettered(["one", "two"]) == "A. one\nB. two"
    assert lettered([str(number) for number in range(26)]).endswith("Z. 25")


@pytest.mark.parametrize("question", ["<image>\nWhat?", "What?\n<image>", "What?<image>", " What?\n"])
def test_the_place_of_the_picture_is_taken_out_of_a_question(question: str) -> None:
    assert without_place(question) == "What?"
