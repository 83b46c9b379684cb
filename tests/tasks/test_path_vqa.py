"""PathVQA: the question alone in training, the study's sentences around it in evaluation."""

from pathlib import Path

from lmmcl.tasks import TASKS
from tests.tasks.conftest import ROWS
from tests.tasks.rows import rows, text


def test_training_asks_the_question_alone(root: Path) -> None:
    row = rows("path_vqa", "train", root)[2]
    assert text(row) == "what is present in the wall of the vessel?"
    assert (row.answer, row.gold) == ("a thin layer of calcium", "a thin layer of calcium")


def test_evaluation_says_what_to_look_at_and_how_to_answer(root: Path) -> None:
    row = rows("path_vqa", "test", root)[1]
    assert text(row) == (
        "Look at the medical image and answer the following question: is the tissue inflamed?\n"
        "For questions that can be answered with a yes or no, just answer yes or no. "
        "Otherwise, provide an answer in the medical domain."
    )
    assert (row.answer, row.gold, row.meta) == ("yes", "yes", {"question": "is the tissue inflamed?"})


def test_dev_is_the_validation_split(root: Path) -> None:
    dev = rows("path_vqa", "dev", root)
    assert len(dev) == ROWS
    assert text(dev[0]).startswith("Look at the medical image")


def test_the_scorer_reports_its_three_parts(root: Path) -> None:
    closed, opened = rows("path_vqa", "test", root)[1], rows("path_vqa", "test", root)[2]
    scorer = TASKS["path_vqa"].scorer
    assert "yes_no" in scorer("no", closed.gold, closed.meta).parts
    assert {"exact_match", "token_f1"} <= set(scorer("calcium", opened.gold, opened.meta).parts)
