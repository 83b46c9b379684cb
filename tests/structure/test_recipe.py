"""Recipes: which parameters train, at which rate, and what a user is told when they cannot."""

import re
from typing import Any

import pytest

from lmmcl.errors import UserError
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.recipe import RECIPES, Recipe
from tests.architectures import anatomies
from tests.structure.test_anatomy import qwen2_7b

EVERY = [*RECIPES, "last_1", "first_1_frozen"]
Q7B = Anatomy.of(qwen2_7b())
LAYER = "model.language_model.layers"


def trained(spec: Any, anatomy: Anatomy = Q7B) -> dict[str, str]:
    return Recipe.parse(spec).resolve(anatomy)


def message(spec: Any, anatomy: Anatomy = Q7B) -> str:
    with pytest.raises(UserError) as error:
        trained(spec, anatomy)
    return str(error.value)


@pytest.mark.parametrize(
    ("recipe", "billions"),
    [("sa_proj", 0.822), ("sa_qkv", 0.463), ("mlp_gate_up", 3.802), ("mlp", 5.703), ("llm", 7.616)],
)
def test_sizes_on_qwen2_7b_are_the_published_ones(recipe: str, billions: float) -> None:
    assert round(sum(Q7B.numel[name] for name in trained(recipe)) / 1e9, 3) == billions


def test_every_recipe_resolves_on_every_gated_model_or_names_the_group_that_is_missing() -> None:
    complete = 0
    for name, anatomy in anatomies().items():
        gated = bool({"llm.mlp.gate", "llm.mlp.gate_up"} & anatomy.groups.keys())
        failures = {}
        for recipe in EVERY:
            try:
                assert trained(recipe, anatomy)
            except UserError as error:
                failures[recipe] = str(error)
        complete += gated and not failures
        for recipe, reason in failures.items():
            missing = re.search(r"needs the group (\S+) .* which this model lacks", reason)
            shared = re.search(r"keeps .* frozen, but in this model .* share one tensor \((\S+)\)", reason)
            assert missing or (recipe == "sa_vo" and shared), (name, reason)
            if missing:
                assert missing[1] not in anatomy.groups
                assert missing[1] in RECIPES[recipe]
            # A gated decoder can lack a tower or a projector of its own, never a projection.
            if missing and gated:
                assert missing[1] in {"vision", "projector"}, (name, reason)
    assert complete >= 60


def test_no_named_recipe_reaches_other_and_only_full_and_llm_reach_embeddings_and_head() -> None:
    for anatomy in anatomies().values():
        for recipe in EVERY:
            try:
                groups = set(trained(recipe, anatomy).values())
            except UserError:
                continue
            assert "other" not in groups
            if recipe not in {"full", "llm"}:
                assert not groups & {"llm.embed", "llm.head", "llm.embed+head"}


def test_a_recipe_takes_biases_with_their_projections_and_leaves_norms_frozen() -> None:
    names = trained("sa_proj")
    assert names[f"{LAYER}.0.self_attn.q_proj.bias"] == "llm.attn.q"
    assert set(names.values()) == {"llm.attn.q", "llm.attn.k", "llm.attn.v", "llm.attn.o"}


def test_names_come_in_model_order_whatever_the_order_of_the_recipe() -> None:
    order = list(Q7B.numel)
    for spec in (["mlp", "sa_proj", "vision"], ["vision", "sa_proj", "mlp"]):
        assert list(trained(spec)) == [name for name in order if name in trained(spec)]
    assert trained(["mlp", "sa_proj"]) == trained(["sa_proj", "mlp"])


def test_a_list_is_the_union_of_its_members() -> None:
    assert trained(["sa_proj", "mlp_gate_up"]) == trained("sa_proj_mlp_gate_up")
    assert trained(["sa_proj", {"train": "llm.attn.q"}]) == trained("sa_proj")


def test_a_group_its_beginning_and_a_pattern_say_the_same() -> None:
    attention = trained("sa_proj")
    assert trained("llm.attn") == attention
    assert trained("llm.attn.*") == attention
    assert trained("llm.attn.[qkvo]") == attention
    assert trained(f"{LAYER}.*.self_attn.*") == attention


def test_layers_keep_a_slice_of_the_decoder() -> None:
    spec = {"train": ["llm.mlp.gate", "llm.mlp.up"], "layers": "12:"}
    expected = {f"{LAYER}.{i}.mlp.{part}_proj.weight" for i in range(12, 28) for part in ("gate", "up")}
    assert set(trained(spec)) == expected


@pytest.mark.parametrize(
    ("layers", "depths"),
    [
        (":2", {0, 1}),
        ("-2:", {26, 27}),
        ("3:5", {3, 4}),
        (7, {7}),
        (-1, {27}),
        ("5", {5}),
        ([0, -1], {0, 27}),
    ],
)
def test_layers_are_written_as_python_slices_numbers_or_lists(layers: Any, depths: set[int]) -> None:
    assert {Q7B.layer_of(name) for name in trained({"train": "mlp", "layers": layers})} == depths


def test_last_n_and_first_n_frozen_take_whole_layers_with_their_norms() -> None:
    expected = {name for name in Q7B.numel if re.match(rf"{LAYER}\.(24|25|26|27)\.", name)}
    assert set(trained("last_4")) == expected
    assert trained("first_24_frozen") == trained("last_4")
    assert f"{LAYER}.24.input_layernorm.weight" in expected


def test_a_separator_trains_by_its_name_and_by_nothing_less() -> None:
    assert trained(["projector", "model.image_newline"])["model.image_newline"] == "other"
    assert "model.image_newline" not in trained("model.*")
    for spec in ("other", "model.image_new*"):
        assert "trained by exact name only" in message(spec)
        assert "model.image_newline" in message(spec)


def test_a_fused_projection_stands_for_each_in_it() -> None:
    fuyu = anatomies()["fuyu"]
    assert set(trained("sa_qkv", fuyu).values()) == {"llm.attn.qkv"}
    assert set(trained("sa_proj", fuyu).values()) == {"llm.attn.qkv", "llm.attn.o"}
    assert set(trained("mlp_gate_up", anatomies()["glm4v"]).values()) == {"llm.mlp.gate_up"}
    experts = set(trained("mlp_gate_up", anatomies()["llama4"]).values())
    assert experts == {"llm.mlp.gate", "llm.mlp.up", "llm.mlp.gate_up"}


def test_half_of_a_fused_projection_is_an_error_that_says_why() -> None:
    assert message("sa_vo", anatomies()["fuyu"]).startswith(
        "model.recipe: sa_vo keeps llm.attn.q and llm.attn.k frozen, but in this model llm.attn.q, llm.attn.k, "
        "llm.attn.v share one tensor (llm.attn.qkv), and a tensor trains as a whole or not at all. Choose"
    )
    assert "sa_vo keeps llm.attn.k frozen" in message("sa_vo", anatomies()["kimi_k25"])
    assert message("llm.attn.v", anatomies()["fuyu"]).endswith("Here it lies in llm.attn.qkv.")


def test_a_plain_mlp_lacks_a_gate_but_trains_as_a_whole() -> None:
    anatomy = anatomies()["florence2"]
    assert set(trained("mlp", anatomy).values()) == {"llm.mlp.up", "llm.mlp.down"}
    assert message("mlp_gate_up", anatomy).startswith(
        "model.recipe: mlp_gate_up needs the group llm.mlp.gate (MLP: gate), which this model lacks. It has "
    )


def test_full_trains_a_model_without_a_tower() -> None:
    groups = set(trained("full", anatomies()["fuyu"]).values())
    assert {"projector", "llm.attn.qkv"} <= groups
    assert "vision needs the group vision" in message("vision", anatomies()["fuyu"])


@pytest.mark.parametrize(
    ("spec", "near"),
    [
        ("sa_porj", "sa_proj"),
        ("lm.attn.q", "llm.attn.q"),
        ("model.image_newlines", "model.image_newline"),
        (f"{LAYER}.3.mlp.gate_pro.weight", f"{LAYER}.3.mlp.gate_proj.weight"),
    ],
)
def test_a_name_that_matches_nothing_is_an_error_with_the_nearest(spec: str, near: str) -> None:
    rule = f"model.recipe: {spec!r} must match a recipe, a group or a parameter, and matches none."
    assert message(spec) == f"{rule} Did you mean {near}?"


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    assert "'*.zzz.*' must match a recipe, a group or a parameter" in message("*.zzz.*")


def test_a_tied_head_is_asked_for_by_the_name_of_the_pair() -> None:
    assert message("llm.head", anatomies()["gemma3"]).endswith("Did you mean llm.embed+head?")
    assert set(trained("llm.embed+head", anatomies()["gemma3"]).values()) == {"llm.embed+head"}


def test_the_vision_tower_gets_two_fifths_of_the_base_rate_unless_told() -> None:
    recipe = Recipe.parse("full")
    assert recipe.lr_for("vision", 5e-6) == pytest.approx(2e-6, rel=1e-12)
    assert recipe.lr_for("llm.attn.q", 5e-6) == 5e-6
    own = Recipe.parse(["sa_proj", {"train": "vision", "lr": {"vision": "1e-6", "llm.attn": 3e-6}}])
    assert own.resolve(Q7B)
    assert own.lr_for("vision", 5e-6) == 1e-6
    assert own.lr_for("llm.attn.o", 5e-6) == 3e-6


@pytest.mark.parametrize(
    ("spec", "start"),
    [
        ("", "model.recipe: must be a name, a mapping with train, or a list of these, got ''"),
        ([], "model.recipe: must be a name, a mapping with train, or a list of these, got []"),
        ([["sa_proj"]], "model.recipe: must be a name, a mapping with train, or a list of these"),
        (4, "model.recipe: must be a name, a mapping with train, or a list of these, got 4"),
        ({"trian": "mlp"}, "model.recipe: may hold train, layers, lr, got 'trian'. Did you mean train?"),
        ({"layers": "1:"}, "model.recipe.train: must be a name or a list of names, got None"),
        ({"train": []}, "model.recipe.train: must be a name or a list of names, got []"),
        ({"train": "mlp", "layers": "a:b"}, 'model.recipe.layers: must be a slice such as "12:"'),
        ({"train": "mlp", "layers": 1.5}, 'model.recipe.layers: must be a slice such as "12:"'),
        ({"train": "mlp", "layers": 28}, "model.recipe.layers: the model has decoder layers 0 to 27, got 28"),
        (
            {"train": "mlp", "layers": "30:"},
            "model.recipe.layers: must name at least one of 28 decoder layers",
        ),
        ({"train": "mlp", "lr": 1e-5}, "model.recipe.lr: must map groups to rates"),
        (
            {"train": "mlp", "lr": {"llm.mlp.up": -1}},
            "model.recipe.lr.llm.mlp.up: must be a positive number, got -1",
        ),
        ({"train": "mlp", "lr": {"vision": 1e-6}}, "model.recipe.lr: a rate must be for a group that trains"),
        ({"train": "vision", "layers": "3:"}, "model.recipe: layers must leave something of every name"),
        ("last_0", "model.recipe: last_0 must name 1 to 28 of 28 decoder layers, got 0"),
        ("last_29", "model.recipe: last_29 must name 1 to 28 of 28 decoder layers, got 29"),
        ("first_28_frozen", "model.recipe: first_28_frozen must name 1 to 27 of 28 decoder layers, got 28"),
    ],
)
def test_a_mistake_is_one_error_with_its_key(spec: Any, start: str) -> None:
    assert message(spec).startswith(start)


def test_one_group_with_two_rates_is_an_error() -> None:
    spec = [{"train": "vision", "lr": {"vision": 1e-6}}, {"train": "mlp", "lr": {"vision": 2e-6}}]
    assert message(spec) == "model.recipe.lr: vision must have one rate, got 1e-06 and 2e-06."


def test_a_recipe_of_a_task_names_its_own_key() -> None:
    with pytest.raises(UserError, match=r"^data\.tasks\[2\]\.recipe: 'nope' must match"):
        Recipe.parse("nope", "data.tasks[2].recipe").resolve(Q7B)


def test_a_recipe_has_a_short_name_and_parses_to_itself() -> None:
    recipe = Recipe.parse(["sa_proj", {"train": ["llm.mlp.gate", "llm.mlp.up"], "layers": "12:"}])
    assert recipe.name == "sa_proj + llm.mlp.gate, llm.mlp.up in layers 12:"
    assert Recipe.parse(recipe) is recipe
