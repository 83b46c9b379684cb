"""MMStar: options inside the question, an instruction without a full stop, two kinds of category."""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lmmcl.evaluation.result import Example, TaskResult
from lmmcl.tasks import TASKS
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


def average(results: Sequence[Mapping[str, Any]]) -> float:
    """lmms-eval's aggregation of ``average`` (0.7.3, tasks/mmstar/utils.py)."""
    scores: dict[str, list[float]] = defaultdict(list)
    for result in results:
        scores[result["l2_category"]].append(result["score"])
    return sum(sum(found) / len(found) for found in scores.values()) / len(scores)


def test_the_score_is_the_mean_over_the_fine_categories_of_whatever_size() -> None:
    draw = random.Random(0)
    task = TASKS["mmstar"]
    assert task.lmms_eval is not None
    examples: list[Example] = []
    results: list[dict[str, Any]] = []
    for number in range(200):
        kind = draw.choice(["geometry", "recognition", "recognition", "recognition", "localization"])
        record = {"question": "Is it?", "answer": draw.choice("ABCD"), "image": None, "index": number}
        row = make_row({**record, "category": "math", "l2_category": kind}, 0, "test")
        said = row.gold if kind == "geometry" else draw.choice("ABCD")
        score = task.lmms_eval(said, row.gold, row.meta)
        examples.append(Example.of(row, said, score, task.mean_over))
        results.append({"l2_category": kind, "score": score.value})
    result = TaskResult("mmstar", tuple(examples))
    assert result.mean == pytest.approx(100 * average(results), abs=1e-9)
    assert result.mean != pytest.approx(100 * sum(one["score"] for one in results) / 200, abs=0.1)


def test_no_other_task_is_a_mean_over_groups() -> None:
    assert [name for name, task in TASKS.items() if task.mean_over is not None] == ["mmstar"]
