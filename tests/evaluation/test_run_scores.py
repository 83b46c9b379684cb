"""A run is read back from its folder: its settings, its scores, and with them the numbers of its own summary."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lmmcl.errors import UserError
from lmmcl.evaluation.across_runs import RunSet
from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.paired_test import paired_test
from lmmcl.evaluation.predictions import PredictionStore
from lmmcl.evaluation.result import TaskResult
from lmmcl.evaluation.run_scores import differing, read_run_scores, read_settings
from lmmcl.evaluation.summary import summarise
from tests.tiny_run import TinyRun


def test_the_numbers_are_those_of_the_runs_own_summary(finished: TinyRun) -> None:
    run = read_run_scores(finished.path)
    assert (run.targets, run.held_out, run.stages, run.finished) == (
        ["count", "word"],
        ["chart", "caption"],
        2,
        True,
    )
    assert run.scores["chart"].shape == (3, 5)
    runs = RunSet([run, run])
    own = json.loads((finished.path / "summary.json").read_text())["estimates"]
    for name, number in runs.across([0]).items():
        assert number.value == pytest.approx(own[name]["value"], abs=1e-9)
        assert (number.low, number.high) == pytest.approx((own[name]["low"], own[name]["high"]), abs=1e-9)
    assert paired_test(runs, 0, 1, "held_out_change").p == 1.0


def test_a_mean_over_groups_is_read_back_as_the_runs_summary_has_it(
    finished: TinyRun, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    shutil.copytree(finished.path, path, ignore=shutil.ignore_patterns("last", "stages"))
    store, matrix = PredictionStore(path / "predictions"), Matrix.load(path)
    results: list[dict[str, TaskResult]] = []
    for stage in matrix.finals:
        held = {task: store.read(stage.name, task) for task in matrix.tasks}
        examples = held["chart"].examples
        marked = [replace(e, score=(k + stage.index) % 2, group="ab"[k > 3]) for k, e in enumerate(examples)]
        held["chart"] = TaskResult("chart", tuple(marked))
        store.write(stage.name, "key", held["chart"])
        results.append(held)
    run = read_run_scores(path)
    assert run.groups == {"chart": ("a", "a", "a", "a", "b")}
    assert run.points(["chart"])[:, 0] == pytest.approx([held["chart"].mean for held in results])
    summary = summarise(results, run.targets, run.held_out)
    found = RunSet([run]).across()["held_out_change"]
    own = summary["held_out_change"]
    assert (found.value, found.low, found.high) == pytest.approx((own.value, own.low, own.high), abs=1e-9)


def test_settings_are_flat_with_one_seed_and_an_order(finished: TinyRun) -> None:
    settings = read_settings(finished.path)
    assert settings["seed"] == 0
    assert settings["order"] == ["count", "word"]
    assert settings["held_out"] == ["caption", "chart"]
    assert settings["model.recipe"] == "sa_proj"
    assert settings["tasks.word.recipe"] == "mlp_gate_up"
    assert settings["callbacks"] == ["LwF", "WiSEFT"]
    measuring = {key for key in settings if key.startswith("HeldOutEvaluation.")}
    assert measuring == {"HeldOutEvaluation.part"}, "what only looks decides nothing"
    assert settings["WiSEFT.alpha"] == 0.3
    assert not {"model.seed", "data.seed"} & settings.keys()


def test_what_differs_is_found(finished: TinyRun, tmp_path: Path) -> None:
    shutil.copytree(finished.path, tmp_path / "other", ignore=shutil.ignore_patterns("last", "stages"))
    config = json.loads((tmp_path / "other/config.json").read_text())
    config["model"]["seed"] = config["data"]["seed"] = 5
    config["callbacks"] = config["callbacks"][:1]
    (tmp_path / "other/config.json").write_text(json.dumps(config))
    found = differing([read_run_scores(finished.path), read_run_scores(tmp_path / "other")])
    assert found["seed"] == [0, 5]
    assert found["WiSEFT.alpha"] == [0.3, None]
    assert found["callbacks"] == [["LwF", "WiSEFT"], []]
    assert not any(key.startswith(("model.", "data.", "tasks.")) for key in found)


def test_what_is_no_run_is_refused_with_the_reason(finished: TinyRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no matrix here"):
        read_run_scores(tmp_path)
    with pytest.raises(UserError, match="is missing; give the folder of a run"):
        read_settings(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="is damaged"):
        read_settings(tmp_path)
    shutil.copytree(finished.path, tmp_path / "short", ignore=shutil.ignore_patterns("last", "stages"))
    matrix = json.loads((tmp_path / "short/matrix.json").read_text())
    matrix["stages"] = matrix["stages"][:1]
    (tmp_path / "short/matrix.json").write_text(json.dumps(matrix))
    with pytest.raises(UserError, match="no stage after the base model"):
        read_run_scores(tmp_path / "short")
