"""Provenance in words: no path of this machine, and hub data by id and revision."""

from typing import Any

import pytest

from lmmcl.provenance import config_again, data_of, versions, without_paths
from lmmcl.tasks import TASKS


@pytest.mark.parametrize(
    ("value", "key", "plain"),
    [
        ("/data/models/qwen", "path", "qwen"),
        ("~/models/qwen/", "path", "qwen"),
        ("C:\\models\\qwen", "path", "qwen"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "path", "Qwen/Qwen2.5-VL-7B-Instruct"),
        ({"train": "data/a/x.jsonl"}, "path", {"train": "x.jsonl"}),
        (["12:", 3, None], "layers", ["12:", 3, None]),
        ("{question}\n/ no path", "prompt", "{question}\n/ no path"),
    ],
)
def test_a_path_becomes_its_last_part_and_nothing_else_changes(value: Any, key: str, plain: Any) -> None:
    assert without_paths(value, key) == plain


def test_the_config_that_makes_a_run_again_has_what_decides_the_result_and_no_folder() -> None:
    given = {
        "model": {"path": "/data/models/qwen", "lr": 1e-5, "run": "/runs/a", "recipe": None},
        "data": {"tasks": [{"task": "mine", "path": "/data/x.jsonl", "prompt": None}], "num_workers": 4},
        "trainer": {"precision": "bf16-mixed", "logger": True, "callbacks": [{"class_path": "LwF"}]},
        "ckpt_path": "last",
    }
    assert config_again(given, ("run", "num_workers")) == {
        "model": {"path": "qwen", "lr": 1e-5},
        "data": {"tasks": [{"task": "mine", "path": "x.jsonl"}]},
        "trainer": {"precision": "bf16-mixed", "callbacks": [{"class_path": "LwF"}]},
    }
    assert config_again({}, ()) == {}


def test_versions_are_those_that_are_known() -> None:
    held = {"python": "3.11.7", "packages": {"torch": "2.9.0", "liger-kernel": None}}
    assert versions(held) == "python 3.11.7, torch 2.9.0"
    assert versions({}) == ""


@pytest.mark.parametrize(
    ("spec", "text", "datasets"),
    [
        ("count", "the picture world of lmmcl", []),
        ({"task": "mine", "path": "/data/x/parts.jsonl"}, "own files: parts.jsonl", []),
        (
            {"task": "m", "path": {"train": "/a/b.jsonl", "test": "c.jsonl"}},
            "own files: b.jsonl, c.jsonl",
            [],
        ),
        (
            {"task": "m", "hub": "owner/name", "config": "c", "revision": "abc"},
            "owner/name (config c, revision abc)",
            ["owner/name"],
        ),
        (None, "given from Python", []),
    ],
)
def test_the_data_of_a_task_is_told_in_words(spec: Any, text: str, datasets: list[str]) -> None:
    assert data_of(spec) == (text, datasets)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_of_the_study_names_its_hub_data_and_their_revision(name: str) -> None:
    text, datasets = data_of(name)
    assert datasets
    assert all(dataset in text for dataset in datasets)
    assert "revision" in text


def test_the_newest_is_that_of_the_time_and_a_local_copy_has_no_revision() -> None:
    hub = {"task": "m", "hub": "owner/name", "revision": "abc"}
    assert data_of({"task": "m", "hub": "owner/name"})[0] == "owner/name (revision newest at the time)"
    assert data_of(hub, copied=True) == ("owner/name (a local copy)", ["owner/name"])
    text, _ = data_of("time_clock", copied=True)
    assert text.endswith(", a local copy")
    assert "revision" not in text


def test_rows_of_ones_own_stand_before_the_hub_data_of_the_task() -> None:
    text, datasets = data_of({"task": "time_clock", "train": "/data/clocks.jsonl"})
    assert text.startswith("own files: clocks.jsonl; AvaXiao/clockreading-time")
    assert datasets == ["AvaXiao/clockreading-time"]
