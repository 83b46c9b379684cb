"""A run's folder says what it holds, whatever lies beside it, and is never taken for another run's."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lmmcl.errors import UserError
from lmmcl.run.run_folder import RunFolder


def config(*tasks: str, lr: float = 1e-3, weight: float = 1.0) -> dict[str, Any]:
    return {
        "model": {"lr": lr},
        "data": {"tasks": [{"name": task, "epochs": 1} for task in tasks], "betas": [0.9, 0.99]},
        "callbacks": [["lmmcl.callbacks.lwf.LwF", {"name": "LwF", "weight": weight}]],
    }


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path)
    run.begin(config("count", "word"), True)
    for name in ("00-base", "01-count"):
        run.write_stage(name, {"w": torch.ones(2)}, {"checksums": {}})
    return run


def test_stages_are_those_that_the_run_wrote(run: RunFolder) -> None:
    run.stage("01-count").with_name("old-01-count").mkdir()
    for name in ("old-01-count", ".02-word"):
        run.stage(name).mkdir(exist_ok=True)
        (run.stage(name) / "lineage.json").write_bytes(b"{}")
    assert run.stages() == ["00-base", "01-count"]
    assert run.find_stage() == "01-count"


def test_the_hundredth_stage_comes_last(run: RunFolder) -> None:
    for name in ("100-word", "11-chart"):
        run.write_stage(name, {"w": torch.ones(2)}, {"checksums": {}})
    assert run.stages() == ["00-base", "01-count", "11-chart", "100-word"]


@pytest.mark.parametrize("resume", [True, False])
def test_a_run_without_its_config_is_neither_gone_on_with_nor_written_over(
    run: RunFolder, resume: bool
) -> None:
    run.config.unlink()
    with pytest.raises(UserError, match=r"holds stages or checkpoints of a run, but not its config.json"):
        run.check(config("count"), resume)


def test_a_folder_of_something_else_may_hold_a_run(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    RunFolder(tmp_path).check(config("count"), resume=False)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (config("word", "count"), r"data.tasks was \[count, word\], is \[word, count\]"),
        (config("count", "word", "chart"), r"data.tasks was \[count, word\], is \[count, word, chart\]"),
        (config("count", "word", lr=1e-4), r"model.lr was 0.001, is 0.0001"),
        (config("count", "word", weight=2.0), r"callbacks.LwF.weight was 1.0, is 2.0"),
    ],
)
def test_what_differs_is_said_by_its_name(run: RunFolder, now: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=rf"was begun with another config: {said}\. Restore"):
        run.check(now, resume=True)


def test_a_list_of_numbers_is_compared_as_it_is(run: RunFolder) -> None:
    now = config("count", "word")
    run.check(now, resume=True)
    now["data"]["betas"] = [0.9, 0.999]
    with pytest.raises(UserError, match=r"data.betas was \[0.9, 0.99\], is \[0.9, 0.999\]"):
        run.check(json.loads(json.dumps(now)), resume=True)
