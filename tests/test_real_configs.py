"""The study's models at their real shapes, built from config.json on the meta device: what every recipe trains."""

from functools import cache
from pathlib import Path

import pytest
import yaml

from lmmcl.loading import Checkpoint
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.recipe import RECIPES, Recipe
from lmmcl.structure.recipe_table import cost_of, on_meta
from tests.benchmarks.recipes import CONFIGS, NAMES, measure

STUDY = Path(__file__).parents[1] / "configs" / "study"
QWEN2_7B = {"sa_proj": 0.822, "sa_qkv": 0.463, "mlp_gate_up": 3.802, "mlp": 5.703, "llm": 7.616}
"""Parameters in billions, as published for Qwen2-7B."""


@cache
def anatomy(name: str) -> Anatomy:
    return Anatomy.of(on_meta(Checkpoint(str(CONFIGS / name))))


@pytest.mark.parametrize(("recipe", "billions"), QWEN2_7B.items())
@pytest.mark.parametrize("name", ["llava-onevision-qwen2-7b", "qwen2.5-vl-7b"])
def test_both_models_on_qwen2_7b_train_what_is_published(name: str, recipe: str, billions: float) -> None:
    assert round(cost_of(Recipe.parse(recipe), anatomy(name)).trained / 1e9, 3) == billions


def test_llama3_8b_trains_what_its_shape_says() -> None:
    width, kv, inner, words, layers = 4096, 1024, 14336, 128320, 32
    attention, gate = layers * 2 * width * (width + kv), layers * width * inner
    norms = (2 * layers + 1) * width
    found = {name: cost_of(Recipe.parse(name), anatomy("llava-next-llama3-8b")).trained for name in RECIPES}
    assert found["sa_proj"] == attention
    assert found["mlp_gate_up"] == 2 * gate
    assert found["llm"] == attention + 3 * gate + 2 * words * width + norms


@pytest.mark.parametrize(
    ("name", "billions"),
    [("llava-onevision-qwen2-7b", 8.03), ("llava-next-llama3-8b", 8.36), ("qwen2.5-vl-7b", 8.29)],
)
def test_the_whole_model_has_the_size_that_the_hub_shows(name: str, billions: float) -> None:
    assert sum(anatomy(name).numel.values()) / 1e9 == pytest.approx(billions, abs=0.006)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layer", sorted(path.stem for path in (STUDY / "recipes").glob("*.yaml")))
def test_every_recipe_of_the_study_resolves_on_every_model(layer: str, name: str) -> None:
    spec = yaml.safe_load((STUDY / "recipes" / f"{layer}.yaml").read_text())["model"]["recipe"]
    cost = cost_of(Recipe.parse(spec), anatomy(name))
    assert 0 < cost.trained <= cost.trained + cost.frozen == sum(anatomy(name).numel.values())
    assert spec == layer


def test_every_model_of_the_study_has_its_config_here() -> None:
    assert {path.stem for path in STUDY.glob("*.yaml")} == set(NAMES)


@pytest.mark.slow
def test_the_command_takes_less_than_ten_seconds_and_two_gigabytes() -> None:
    cost = measure("qwen2.5-vl-7b")
    assert cost.cpu < 10, "of processor time, so that a busy machine does not fail it"
    assert cost.memory < 2e9
