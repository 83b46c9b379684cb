"""The YAML forms of a task."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest

import lmmcl.scorers
from lmmcl.data.parse import built_in_tasks, parse_task
from lmmcl.data.task import Part
from lmmcl.data.task_settings import TaskSettings
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


def hub(folder: Path) -> dict[str, Any]:
    """A dataset's local copy, and a task that reads it."""
    (folder / "owner" / "name").mkdir(parents=True)
    for split, count in (("train", 30), ("validation", 5)):
        rows = [{"q": f"{split} {i}?", "labels": ["a", "b"], "kind": {"of": "c"}} for i in range(count)]
        (folder / "owner" / "name" / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {
        "task": "mine",
        "hub": "owner/name",
        "splits": {"train": "train", "test": "validation"},
        "columns": {"answer": "labels[0]", "gold": "labels", "category": "kind.of"},
        "prompt": "{q} Be brief.",
    }


def test_a_hub_dataset_makes_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    task = parse_task({**hub(tmp_path), "epochs": 2}, settings=TaskSettings(root=tmp_path))
    row = task.source.split("test")[1]
    assert (task.epochs, row.id, row.answer, row.gold) == (2, "validation-1", "a", ["a", "b"])
    assert row.meta == {"category": "c", "q": "validation 1?"}
    assert row.messages[0]["content"] == [{"type": "text", "text": "validation 1? Be brief."}]
    dev, train = task.source.split("dev"), task.source.split("train")
    assert len(dev) + len(train) == 30
    assert dev[0].id.startswith("train-")
    first = task.source.fingerprint()
    other = parse_task({**hub(tmp_path / "b"), "prompt": "{q}"}, settings=TaskSettings(root=tmp_path))
    assert other.source.fingerprint() != first


def test_a_bad_row_of_the_hub_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    task = parse_task({**hub(tmp_path), "prompt": "{hint}"}, settings=TaskSettings(root=tmp_path))
    with pytest.raises(UserError, match=r"owner/name, split validation, row 2: prompt names 'hint'"):
        task.source.split("test")[2]


def test_hub_data_come_from_the_hub_unless_there_is_a_root(tmp_path: Path) -> None:
    task = parse_task(hub(tmp_path))
    with pytest.raises(UserError, match=r"hub: owner/name cannot be loaded .*data\.root"):
        task.source.split("test")


def test_a_built_in_task_learns_from_other_rows(path: str) -> None:
    task = parse_task({"task": "count", "train": path, "prompt": "{question}!", "lr": 1e-5})
    assert (task.name, task.lr, task.scorer) == ("count", 1e-5, TASKS["count"].scorer)
    assert len(task.source.split("train")) == 40
    assert task.source.split("train")[0].messages[0]["content"][0]["text"] == "q 0!"
    parts: tuple[Part, ...] = ("dev", "test")
    for part in parts:
        assert [row.id for row in task.source.split(part)[:3]] == [
            row.id for row in TASKS["count"].source.split(part)[:3]
        ]
    assert task.source.fingerprint() != TASKS["count"].source.fingerprint()


def test_the_test_data_of_a_task_with_other_rows_still_lie_under_the_root(path: str, tmp_path: Path) -> None:
    task = parse_task({"task": "time_clock", "train": path}, settings=TaskSettings(root=tmp_path))
    with pytest.raises(UserError, match=r"data\.root: .* must lie in"):
        task.source.split("test")


def test_lmms_eval_scoring_takes_the_scorer_of_that_mode(path: str) -> None:
    task = replace(TASKS["count"], lmms_eval=lmmcl.scorers.exact_match)
    lmms = TaskSettings(scoring="lmms-eval")
    assert parse_task(task, settings=lmms).scorer is lmmcl.scorers.exact_match
    assert parse_task(task).scorer is TASKS["count"].scorer
    assert parse_task("text_vqa", settings=lmms).scorer is built_in_tasks()["text_vqa"].lmms_eval
    assert (
        parse_task({"task": "text_vqa", "scoring": "lmms-eval"}).scorer
        is built_in_tasks()["text_vqa"].lmms_eval
    )
    robust = parse_task(
        {"task": "mine", "path": path, "scorer": "letter", "scoring": "robust"}, settings=lmms
    )
    assert robust.scorer is lmmcl.scorers.letter
    with pytest.raises(
        UserError, match=r"data\.tasks: mine has no scorer of lmms-eval, .*text_vqa.*scoring: robust"
    ):
        parse_task({"task": "mine", "path": path}, settings=lmms)
    with pytest.raises(UserError, match=r"text_vqa\.scorer: scoring is lmms-eval, which brings its own"):
        parse_task({"task": "text_vqa", "scorer": "letter"}, settings=lmms)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"task": "mine", "hub": "name"}, "mine: hub: must be an id such as owner/name, got 'name'"),
        ({"task": "mine", "hub": "a/b"}, r"mine: splits: must name .* for train and test, got None"),
        ({"task": "mine", "hub": "a/b", "splits": {"test": "t"}}, "splits: must name .* for train and test"),
        (
            {"task": "mine", "hub": "a/b", "splits": {"train": "t", "test": "v", "tset": "x"}},
            "splits: keys must be .* got 'tset'; did you mean 'test'",
        ),
        (
            {"task": "mine", "hub": "a/b", "splits": {"train": "t", "test": "v"}, "split": {"test": 1}},
            "only hold dev's",
        ),
        ({"task": "mine", "hub": "a/b", "path": "x.jsonl"}, "come from one place, got path and hub"),
        ({"task": "mine", "path": "x.jsonl", "revision": "main"}, "mine.revision needs 'hub' beside it"),
        ({"task": "count", "prompt": "x"}, "count.prompt needs 'path' or 'hub' or 'train' beside it"),
        ({"task": "mine", "train": "x.jsonl"}, "there is no task 'mine'"),
        ({"task": "count", "train": "x.jsonl"}, "count: path: there is no file x.jsonl"),
        ({"task": "count", "scoring": "lmms"}, "scoring must be 'robust' or 'lmms-eval', got 'lmms'"),
        ({"task": "mine", "hubs": "a/b"}, "unknown key 'hubs'; did you mean 'hub'"),
    ],
)
def test_a_mistake_in_where_rows_come_from_is_said(spec: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_task(spec)


def test_a_held_out_task_learns_from_nothing(path: str) -> None:
    with pytest.raises(UserError, match=r"data\.held_out: count\.train: a held-out task is only measured"):
        parse_task({"task": "count", "train": path}, key="data.held_out", held_out=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root": "nowhere"}, "data.root must be a folder, there is none at nowhere"),
        ({"on_bad_row": "skip"}, "data.on_bad_row must be 'error' or 'drop', got 'skip'"),
        ({"scoring": "lmms"}, "data.scoring must be 'robust' or 'lmms-eval', got 'lmms'"),
    ],
)
def test_settings_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TaskSettings(**options)
