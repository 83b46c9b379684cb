"""The help of `fit` and `validate`: every key of ours, in a few screens; and the config they would run with."""

from pathlib import Path

import pytest
import yaml

import lmmcl.callbacks
from lmmcl.cli.config_parser import config_parser
from lmmcl.cli.help import sequence_help
from lmmcl.cli.keys import TRAINER, keys_of
from lmmcl.structure.recipe import RECIPES
from tests.tiny_run import command, write_config


@pytest.mark.parametrize("name", ["fit", "validate"])
def test_help_names_every_key_of_ours_and_what_a_sequence_uses_of_lightning(name: str) -> None:
    code, output, errors = command(name, "--help")
    assert (code, errors) == (0, "")
    assert output.startswith(f"usage: lmmcl {name} ")
    for key in keys_of(config_parser()):
        shown = f"  --{key.name} " in output or f"  --{key.name}, --{key.name}+ " in output
        assert shown == (key.group != "trainer" or key.name.rpartition(".")[2] in TRAINER), key.name
    for word in ("--config", "--print_config", "--debug", *RECIPES, *lmmcl.callbacks.__all__, "count"):
        assert word in output


def test_help_of_a_command_tells_its_own_options_and_exit_codes() -> None:
    preflight, validate = (command(name, "--help")[1] for name in ("preflight", "validate"))
    for option in ("--decode", "--gpu_memory", "--time", "--show", "--json"):
        assert f"\n  {option}" in preflight
    assert "\n  --stage K" in validate
    assert "Exit code 2: a check failed" in preflight
    assert "Exit code 3" not in preflight
    assert "Exit code 3" in validate


def test_help_says_what_a_callback_does_and_not_its_formula_alone() -> None:
    text = " ".join(command("fit", "--help")[1].split())
    assert "EWC Adds (λ/2) Σ F (θ − θ*)²: what mattered for a task stays near its value" in text


def test_help_fits_a_few_screens_and_its_columns() -> None:
    text = sequence_help(config_parser(), width=80)
    assert len(text.splitlines()) < 270
    assert max(map(len, text.splitlines())) <= 80
    for noise in ("known subclasses", "lightning.pytorch", "Union[", ":class:", "``"):
        assert noise not in text


def test_every_key_of_ours_says_what_it_means_its_type_and_its_default() -> None:
    keys = {key.name: key for key in keys_of(config_parser())}
    ours = [key for key in keys.values() if not key.name.startswith("trainer.")]
    assert not [key.name for key in ours if not key.text or "VALUE" in key.kind]
    assert [key.name for key in ours if key.required] == ["model.path", "data.tasks"]
    assert (keys["model.lr"].kind, keys["model.lr"].default) == ("NUMBER", 5e-6)
    assert keys["model.schedule"].kind == "cosine|constant"
    assert keys["trainer.callbacks"].appends
    assert set(TRAINER) <= {name.rpartition(".")[2] for name in keys}


def test_the_help_of_a_callback_tells_its_arguments() -> None:
    code, output, _ = command("fit", "--trainer.callbacks.help", "LwF")
    assert code == 0
    assert "temperature" in output


def test_print_config_is_whole_and_gives_itself_again(tiny: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, tiny, tmp_path / "run")
    code, output, errors = command("fit", "--config", config, "--model.lr", "0.5", "--print_config")
    assert (code, errors) == (0, "")
    printed = yaml.safe_load(output)
    assert (printed["model"]["lr"], printed["model"]["recipe"]) == (0.5, "sa_proj")
    assert [entry["class_path"].rpartition(".")[2] for entry in printed["trainer"]["callbacks"]] == [
        "HeldOutEvaluation",
        "LwF",
        "WiSEFT",
    ]
    assert not (tmp_path / "run").exists()
    (tmp_path / "again.yaml").write_text(output)
    assert command("fit", "--config", tmp_path / "again.yaml", "--print_config")[1] == output


@pytest.mark.parametrize(
    ("option", "given", "group", "key"),
    [
        ("--model.recipe", {"train": "llm.attn", "lr": 0.5}, "model", "recipe"),
        (
            "--data.tasks",
            [{"task": "a", "path": "a.jsonl", "split": {"dev": 0.5, "test": 0.25}}],
            "data",
            "tasks",
        ),
        (
            "--data.tasks",
            [{"task": "a", "path": "a.csv", "columns": {"id": "1", "image": None}}],
            "data",
            "tasks",
        ),
    ],
)
def test_a_mapping_given_as_an_option_is_what_the_yaml_would_hold(
    option: str, given: object, group: str, key: str, tiny: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path, tiny, tmp_path / "run")
    _, output, errors = command(
        "fit", "--config", config, option, yaml.safe_dump(given, default_flow_style=True), "--print_config"
    )
    assert errors == ""
    assert yaml.safe_load(output)[group][key] == given
