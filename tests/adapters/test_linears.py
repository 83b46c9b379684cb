"""The linears that a recipe gives to adapters: weights alone, and nothing that is no linear."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lmmcl.adapters.linears import linear_weights
from lmmcl.errors import UserError
from lmmcl.loading import Checkpoint
from lmmcl.model import ContinualLMM
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.recipe import Recipe
from lmmcl.structure.recipe_table import on_meta

LAYERS = "model.language_model.layers"


def chosen(path: Path, recipe: Any) -> list[str]:
    model = on_meta(Checkpoint(str(path)))
    plan = SimpleNamespace(anatomy=Anatomy.of(model), recipe_of=lambda _: Recipe.parse(recipe))
    task = cast(Any, SimpleNamespace(name="only"))
    return linear_weights("X", cast(ContinualLMM, plan), task, dict(model.named_modules()))


def test_biases_are_passed_over(tiny: Path) -> None:
    names = [f"{LAYERS}.{layer}.self_attn.{part}_proj.weight" for layer in (0, 1) for part in "qkv"]
    assert chosen(tiny, "sa_qkv") == names
    assert chosen(tiny, [f"{LAYERS}.1.*.q_proj.*"]) == names[3:4]


def test_what_is_no_linear_is_refused_and_the_linear_groups_are_offered(tiny: Path) -> None:
    words = (
        r"model\.recipe: X adapts linear layers only, and the recipe of only .* also chooses .*embed_tokens"
    )
    with pytest.raises(UserError, match=words) as refused:
        chosen(tiny, "llm")
    offered = str(refused.value).partition("here ")[2].partition(", or single")[0].split(", ")
    assert {"llm.attn.q", "llm.mlp.up"} <= set(offered) and not {"llm.norm", "llm.embed", "vision"} & set(
        offered
    )
