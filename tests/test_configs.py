"""Every YAML that ships: its command is its first line and parses, and it says only what differs from the defaults."""

import shlex
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from lmmcl.cli.sequence_cli import SequenceCLI
from lmmcl.data.parse import built_in_tasks
from lmmcl.tasks import HELD_OUT, OTHERS, TARGETS, TASKS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "configs"
CONFIGS = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.yaml"))
MODELS = sorted(path.name for path in (FOLDER / "study").glob("*.yaml"))
ORDERS = sorted(path.name for path in (FOLDER / "study" / "orders").glob("*.yaml"))


@pytest.fixture
def parse_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SequenceCLI, "instantiate_classes", lambda cli: None)
    monkeypatch.chdir(ROOT)


def parse(*words: str) -> Any:
    """The config that ``lmmcl fit`` makes of some words."""
    return SequenceCLI(words, "lmmcl fit --config FILE").config


def study(*layers: str) -> Any:
    """The config of some layers of the study."""
    return parse(*(word for layer in layers for word in ("--config", f"configs/study/{layer}.yaml")))


def first_line(name: str) -> list[str]:
    """Words of the command that a YAML begins with."""
    return shlex.split((FOLDER / name).read_text().splitlines()[0].removeprefix("#"))


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}".lstrip("."))
    else:
        yield key, value


def name_of(task: Any) -> str:
    return str(task if isinstance(task, str) else task["task"])


def callbacks(config: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(c.class_path.rpartition(".")[2], c.init_args.as_dict()) for c in config.trainer.callbacks]


@pytest.mark.usefixtures("parse_only")
@pytest.mark.parametrize("name", CONFIGS)
def test_the_command_on_the_first_line_of_a_yaml_parses_and_names_it(name: str) -> None:
    program, command, *words = first_line(name)
    assert (program, command) == ("lmmcl", "fit")
    assert f"configs/{name}" in words
    config = parse(*words)
    assert config["model"]["path"]
    known = {**built_in_tasks(), **TASKS}
    for task in [*config["data"]["tasks"], *config["data"]["held_out"]]:
        assert name_of(task) in known or "path" in task, task


@pytest.mark.usefixtures("parse_only")
@pytest.mark.parametrize("name", CONFIGS)
def test_a_yaml_says_only_what_differs_from_the_defaults(name: str) -> None:
    seq = SequenceCLI(["--config", "configs/seq.yaml"], "lmmcl fit --config FILE")
    defaults = seq.parser.get_defaults()
    layer = name.startswith(
        "study/recipes/"
    )  # it stands over another, whose recipe it may bring back to the default
    for key, value in leaves(yaml.safe_load((FOLDER / name).read_text())):
        same = key in defaults and defaults[key] == value
        assert not same or (layer and key == "model.recipe"), f"{key}: {value} is the default"


def test_the_two_demos_differ_in_their_recipe_only() -> None:
    one, other = (yaml.safe_load((FOLDER / f"{name}.yaml").read_text()) for name in ("seq", "seq_full"))
    assert other["model"].pop("recipe") == "full"
    assert (one.pop("run"), other.pop("run")) == ("runs/seq", "runs/seq_full")
    assert one == other


@pytest.mark.usefixtures("parse_only")
@pytest.mark.parametrize(("model", "order"), list(product(MODELS, ORDERS)))
def test_every_model_goes_with_every_order_and_the_study_s_hyper_parameters(model: str, order: str) -> None:
    config = study(model.removesuffix(".yaml"), f"orders/{order.removesuffix('.yaml')}")
    assert sorted(map(name_of, config.data.tasks)) == sorted(TARGETS)
    assert tuple(config.data.held_out) == HELD_OUT
    assert (config.model.lr, config.model.weight_decay, config.model.schedule) == (5e-6, 0.0, "cosine")
    assert (config.model.warmup_ratio, config.model.activation_checkpointing) == (0.03, True)
    assert (config.data.batch_size, config.data.drop_last, config.data.group_by_length) == (32, True, True)
    assert (config.trainer.precision, config.trainer.gradient_clip_val) == ("bf16-mixed", 1.0)


@pytest.mark.usefixtures("parse_only")
def test_the_orders_are_those_of_the_study() -> None:
    orders = {
        order: [name_of(task) for task in study("qwen2.5-vl-7b", f"orders/{order}").data.tasks]
        for order in ("default", "alternative", "clock_first")
    }
    assert orders == {
        "default": ["cub200", "pixmo_count", "path_vqa", "text_vqa", "time_clock"],
        "alternative": ["path_vqa", "cub200", "text_vqa", "time_clock", "pixmo_count"],
        "clock_first": ["time_clock", "text_vqa", "path_vqa", "pixmo_count", "cub200"],
    }


@pytest.mark.usefixtures("parse_only")
def test_baselines_add_to_each_other_in_the_order_given() -> None:
    layers = ["qwen2.5-vl-7b", "orders/default", "recipes/mlp_gate_up"]
    one = callbacks(study(*layers, "baselines/lwf", "baselines/wise_ft"))
    other = callbacks(study(*layers, "baselines/wise_ft", "baselines/lwf"))
    assert [name for name, _ in one] == ["LwF", "WiSEFT"]
    assert one == other[::-1]
    assert {"weight": 1.0, "temperature": 2.0}.items() <= one[0][1].items()
    assert one[1][1]["alpha"] == 0.1
    assert study(*layers).model.recipe == "mlp_gate_up"


@pytest.mark.usefixtures("parse_only")
def test_more_held_out_tasks_add_to_the_eight() -> None:
    assert tuple(study("qwen2.5-vl-7b", "orders/default", "held_out/more").data.held_out) == (
        *HELD_OUT,
        *OTHERS,
    )
