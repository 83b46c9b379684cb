"""The YAML forms of a task."""

import json
from pathlib import Path
from typing import Any

import pytest

import lmmcl.scorers
from lmmcl.data.parse import parse_task
from lmmcl.errors import UserError
from lmmcl.world.tasks import TASKS


@pytest.fixture
def path(tmp_path: Path) -> str:
    rows = [{"question": f"q {i}", "answer": "A", "options": ["x", "y"]} for i in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(tmp_path / "rows.jsonl")


def test_a_name_is_a_built_in_task() -> None:
    assert parse_task("count") is TASKS["count"]


def test_a_task_is_itself() -> None:
    assert parse_task(TASKS["count"]) is TASKS["count"]


def test_a_built_in_task_takes_overrides() -> None:
    task = parse_task({"task": "count", "lr": "1e-4", "max_train_samples": 100, "recipe": ["sa_proj"]})
    assert (task.name, task.lr, task.max_train_samples, task.recipe) == ("count", 1e-4, 100, ["sa_proj"])
    assert task.source is TASKS["count"].source


def test_files_make_a_task(path: str) -> None:
    task = parse_task({"task": "mine", "path": path, "scorer": "letter", "epochs": 2})
    assert (task.name, task.scorer, task.epochs) == ("mine", lmmcl.scorers.letter, 2)
    assert task.source.split("test")[0].meta["options"] == ["x", "y"]


def test_a_held_out_file_has_no_train_part(path: str) -> None:
    task = parse_task({"task": "mine", "path": path}, held_out=True)
    assert len(task.source.split("test")) > 25
    with pytest.raises(UserError, match="must have rows for train"):
        task.source.split("train")


def test_a_scorer_may_be_a_dotted_path(path: str) -> None:
    task = parse_task({"task": "mine", "path": path, "scorer": "os.path.basename"})
    assert getattr(task.scorer, "__name__", None) == "basename"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cuont", "no task 'cuont'; did you mean 'count'"),
        ({"path": "x.jsonl"}, "key 'task'"),
        (3, "key 'task'"),
        ({"task": "count", "epoch": 2}, "unknown key 'epoch'; did you mean 'epochs'"),
        ({"task": "count", "lr": "fast"}, "count.lr must be a number, got 'fast'"),
        ({"task": "count", "epochs": 0}, "count.epochs .* got 0"),
        ({"task": "count", "scorer": "leter"}, "no scorer 'leter'; did you mean 'letter'"),
        ({"task": "count", "scorer": "nowhere.at_all"}, "count.scorer: nowhere.at_all cannot be imported"),
        ({"task": "count", "image_folder": "x"}, "image_folder needs 'path'"),
        ({"task": "mine", "path": "missing.jsonl"}, "there is no file missing.jsonl"),
    ],
)
def test_a_mistake_is_said_with_the_way_out(spec: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"data.tasks: .*{message}"):
        parse_task(spec)
