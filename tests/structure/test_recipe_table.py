"""The tables of ``lmmcl recipes``: counts, shares and memory, from a config alone."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from transformers import BertConfig

from lmmcl.errors import UserError
from lmmcl.loading import Checkpoint
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.recipe import RECIPES, Recipe
from lmmcl.structure.recipe_table import Cost, cost_of, on_meta, print_recipes, recipes_table
from tests.architectures import anatomies
from tests.structure.test_anatomy import qwen2_7b
from tests.tiny import tiny_checkpoint


def printed(table: object) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_trained_parameter_takes_sixteen_bytes_and_a_frozen_one_two() -> None:
    cost = Cost(trained=10, frozen=90)
    assert (cost.weights, cost.gradients, cost.optimizer) == (40 + 180, 40, 80)
    assert cost.total == 16 * 10 + 2 * 90
    assert cost.share == 0.1
    assert Cost(10, 90, frozen_bytes_each=4).total == 16 * 10 + 4 * 90


def test_cost_of_a_recipe_counts_every_parameter_once() -> None:
    anatomy = Anatomy.of(qwen2_7b())
    cost = cost_of(Recipe.parse("sa_proj"), anatomy)
    assert cost.trained == 28 * (2 * 3584 * 3584 + 2 * 3584 * 512 + 3584 + 2 * 512)
    assert cost.trained + cost.frozen == sum(anatomy.numel.values())


def test_the_table_of_qwen2_7b_shows_the_published_sizes() -> None:
    text = printed(recipes_table(Anatomy.of(qwen2_7b()), [Recipe.parse(name) for name in RECIPES]))
    rows = {
        row.split()[1]: row for row in text.splitlines() if row.startswith("│ ") and row.split()[1] in RECIPES
    }
    assert rows.keys() == RECIPES.keys()
    for recipe, size in {
        "llm": "7.616 B",
        "mlp": "5.703 B",
        "mlp_gate_up": "3.802 B",
        "sa_proj": "822.2 M",
    }.items():
        assert size in rows[recipe]
    assert "llm.attn.{q, k, v, o}" in rows["sa_proj"]


def test_a_recipe_that_does_not_fit_says_so_in_its_row() -> None:
    text = printed(recipes_table(anatomies()["blip-2"], [Recipe.parse("mlp_gate_up")]))
    assert "mlp_gate_up needs the group llm.mlp.gate" in text


def test_the_command_reads_a_config_and_no_weights(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path)
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    console = Console(file=io.StringIO())
    print_recipes(str(folder), recipe="llm.mlp.down", console=console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for word in (*RECIPES, "last_1", "llm.mlp.down", "LlavaForConditionalGeneration", "2 decoder layers"):
        assert word in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) > 80


def test_every_parameter_of_the_shape_is_on_the_meta_device(tiny: Path) -> None:
    model = on_meta(Checkpoint(str(tiny)))
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


def test_a_model_that_sees_no_pictures_is_refused(tmp_path: Path) -> None:
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(
        UserError, match=r"^model\.path: must be an image-text-to-text model, and .* \(bert\)"
    ):
        print_recipes(str(tmp_path))


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^model\.path: could not load"):
        print_recipes(str(tmp_path))
