"""What a run was started with stands in its folder, and is enough to start it again."""

import json

import yaml

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
