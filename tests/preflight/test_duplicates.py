"""What training and evaluation share."""

from lmmcl.preflight.duplicates import check_duplicates
from lmmcl.preflight.finding import Finding
from lmmcl.preflight.scan import Rows, Scanned, Seen
from tests.toy import toy_task


def row(name: str, question: str, *pictures: str, answer: str = "yes", pixels: str = "") -> Seen:
    marks = tuple(tuple(mark.encode() for mark in (picture, pixels) if mark) for picture in pictures)
    return Seen(name, marks=marks, question=question.encode(), answer=answer.encode())


def found(train: list[Seen], test: list[Seen]) -> list[Finding]:
    first, second = toy_task("mine", 0), toy_task("other", 1)
    return list(
        check_duplicates([Scanned(Rows(first, "train", []), train), Scanned(Rows(second, "test", []), test)])
    )


def test_rows_that_share_nothing_are_fine() -> None:
    assert [one.level for one in found([row("a", "q", "p1")], [row("b", "q", "p2")])] == ["ok"]


def test_the_same_question_about_the_same_picture_is_a_failure_over_tasks() -> None:
    said = found([row("a", "q", "p1")], [row("b", "q", "p1")])
    assert [(one.level, one.task) for one in said] == [("failure", "other")]
    assert all(part in said[0].text for part in ("row 'b' (test)", "row 'a' of mine (train)"))


def test_the_same_pixels_in_another_file_are_the_same_picture() -> None:
    said = found([row("a", "q", "file1", pixels="same")], [row("b", "q", "file2", pixels="same")])
    assert [one.level for one in said] == ["failure"]


def test_the_same_picture_under_another_question_is_one_warning() -> None:
    said = found([row("a", "q", "p1")], [row("b", "r", "p1"), row("c", "s", "p1")])
    assert [one.level for one in said] == ["warning"]
    assert said[0].text.startswith("2 test rows show a picture that mine trains on")


def test_a_question_without_pictures_counts_by_its_text() -> None:
    assert [one.level for one in found([row("a", "q")], [row("b", "q")])] == ["failure"]


def test_rows_twice_in_training_and_rows_that_contradict_each_other_are_warnings() -> None:
    train = [row("a", "q", "p"), row("b", "q", "p"), row("c", "r", "p"), row("d", "r", "p", answer="no")]
    said = found(train, [row("e", "z", "x")])
    assert [one.level for one in said] == ["warning", "warning"]
    assert said[0].text == "1 training row stands twice (row 'a' and row 'b')."
    assert said[1].text == "1 training row asks the same and answers otherwise (row 'c' and row 'd')."
    three = found([*train[:2], row("f", "q", "p")], [row("e", "z", "x")])
    assert three[0].text == "2 training rows stand twice (row 'a' and row 'b')."


def test_pictures_that_were_not_looked_at_are_not_taken_for_equal() -> None:
    unseen = Seen("a", sizes=(None,), marks=((),), question=b"q")
    said = found([unseen], [unseen])
    assert [one.level for one in said] == ["ok"]
    assert "2 more were not compared" in said[0].text
