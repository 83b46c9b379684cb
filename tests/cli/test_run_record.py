"""What a run was started with stands in its folder, and is enough to start it again."""

import json
import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from lightning.pytorch import LightningModule

from lmmcl.cli.run_record import RunRecord
from tests.tiny_run import TinyRun


def test_the_config_holds_the_yaml_and_the_defaults(finished: TinyRun) -> None:
    given = yaml.safe_load(finished.config.read_text())
    held = yaml.safe_load((finished.path / "config.yaml").read_text())
    assert held["model"] == {**held["model"], **given["model"]}
    assert held["data"] == {**held["data"], **given["data"]}
    assert (held["seed"], held["trainer"]["gradient_clip_val"]) == (0, 1.0)
    assert held["ckpt_path"] is None


def test_the_environment_names_versions_and_machine(finished: TinyRun) -> None:
    held = json.loads((finished.path / "environment.json").read_text())
    assert {"torch", "lightning", "transformers", "lmmcl"} <= held["packages"].keys()
    assert all(held["packages"].values())
    assert held["processes"] == 1


def test_a_run_that_goes_on_with_other_versions_says_which(tmp_path: Path) -> None:
    trainer: Any = SimpleNamespace(is_global_zero=True, world_size=1)
    record, file = RunRecord("seed: 0\n", tmp_path), tmp_path / "environment.json"

    def begin() -> None:
        record.on_fit_start(trainer, LightningModule())

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        begin()
        begin()
        file.write_bytes(b"damaged")
        begin()
    held = json.loads(file.read_bytes())
    now = held["packages"]["torch"]
    held["packages"]["torch"] = "2.9.0"
    file.write_text(json.dumps(held))
    with pytest.warns(
        UserWarning, match=rf"went on to here with torch 2.9.0, now {re.escape(now)}: it need not"
    ):
        begin()
    assert json.loads(file.read_bytes())["packages"]["torch"] == now
