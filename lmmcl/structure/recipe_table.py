"""What each recipe would train of a model, and the memory it takes: the tables of ``lmmcl recipes``."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import AutoModelForImageTextToText

from lmmcl.errors import UserError
from lmmcl.loading import Checkpoint
from lmmcl.structure.anatomy import GROUPS, Anatomy
from lmmcl.structure.recipe import RECIPES, Recipe

__all__ = [
    "Cost",
    "base_group",
    "cost_of",
    "count_text",
    "groups_table",
    "in_order",
    "on_meta",
    "print_recipes",
    "recipes_table",
    "short_groups",
    "size_text",
]


_FILE_WIDTH = 140
"""Columns where no terminal sets them: rich would fold the tables into 80."""


@dataclass(frozen=True)
class Cost:
    """Parameters of a recipe and their memory in bytes, without activations.

    A trained parameter takes 16 bytes (master, gradient and AdamW's two moments, each in fp32), a frozen one
    its size in the checkpoint. Sharded over N devices, each holds one N-th.
    """

    trained: int
    frozen: int
    frozen_bytes_each: int = 2

    @property
    def share(self) -> float:
        """Trained share of all parameters, 0 to 1."""
        return self.trained / (self.trained + self.frozen)

    @property
    def weights(self) -> int:
        """Bytes of masters and frozen tensors."""
        return 4 * self.trained + self.frozen_bytes_each * self.frozen

    @property
    def gradients(self) -> int:
        """Bytes of gradients."""
        return 4 * self.trained

    @property
    def optimizer(self) -> int:
        """Bytes of AdamW's moments."""
        return 8 * self.trained

    @property
    def total(self) -> int:
        """Bytes of weights, gradients and optimizer."""
        return self.weights + self.gradients + self.optimizer


def on_meta(checkpoint: Checkpoint) -> nn.Module:
    """Build a checkpoint's model without its weights, from the config alone.

    Raises:
        UserError: the config cannot be read, or is not that of an image-text-to-text model.
    """
    config = checkpoint.config()
    try:
        with torch.device("meta"):
            model: nn.Module = AutoModelForImageTextToText.from_config(
                config, trust_remote_code=checkpoint.trust_remote_code
            )
    except (ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"model.path: must be an image-text-to-text model, and {checkpoint.path} ({config.model_type}) "
            f"does not build as one: {reason}"
        ) from error
    return model


def cost_of(recipe: Recipe, anatomy: Anatomy, frozen_bytes_each: int = 2) -> Cost:
    """Count what a recipe trains.

    Raises:
        UserError: the recipe does not fit the model.
    """
    trained = sum(anatomy.numel[name] for name in recipe.resolve(anatomy))
    return Cost(trained, sum(anatomy.numel.values()) - trained, frozen_bytes_each)


def groups_table(anatomy: Anatomy) -> Table:
    """One row a group: what it holds, tensors, parameters and their share."""
    everything = sum(anatomy.numel.values())
    table = Table(title="Groups", title_justify="left")
    table.add_column("group", no_wrap=True)
    table.add_column("holds")
    for column in ("tensors", "parameters", "share"):
        table.add_column(column, justify="right", no_wrap=True)
    for group, names in anatomy.groups.items():
        count = sum(anatomy.numel[name] for name in names)
        share = f"{100 * count / everything:.1f} %"
        table.add_row(group, GROUPS[group], str(len(names)), count_text(count), share)
    table.add_section()
    table.add_row("all", "", str(len(anatomy.numel)), count_text(everything), "100.0 %")
    return table


def recipes_table(anatomy: Anatomy, recipes: Iterable[Recipe], frozen_bytes_each: int = 2) -> Table:
    """One row a recipe: the groups it trains, their parameters and share, memory; or why it does not fit."""
    table = Table(title="Recipes", title_justify="left", caption_justify="left")
    table.caption = (
        f"Memory: 16 bytes a trained parameter (fp32 master, gradient, AdamW's two moments), "
        f"{frozen_bytes_each} a frozen one; activations come on top."
    )
    table.add_column("recipe", no_wrap=True)
    table.add_column("trains")
    for column in ("parameters", "share", "weights", "gradients", "optimizer", "memory"):
        table.add_column(column, justify="right", no_wrap=True)
    for recipe in recipes:
        try:
            trained = set(recipe.resolve(anatomy).values())
        except UserError as error:
            reason = str(error).removeprefix(f"{recipe.key}: ")
            table.add_row(recipe.name, reason, *["-"] * 6, style="dim")
            continue
        groups = [group for group in anatomy.groups if group in trained]
        cost = cost_of(recipe, anatomy, frozen_bytes_each)
        sizes = map(size_text, (cost.weights, cost.gradients, cost.optimizer, cost.total))
        table.add_row(
            recipe.name, short_groups(groups), count_text(cost.trained), f"{100 * cost.share:.1f} %", *sizes
        )
    return table


def print_recipes(
    path: str,
    revision: str | None = None,
    trust_remote_code: bool = False,
    recipe: str | None = None,
    console: Console | None = None,
) -> None:
    """Print a model's groups and what every recipe trains of it; no weights are read.

    Args:
        path: folder or hub id of an image-text-to-text model, or the name of an embedded one.
        revision: branch, tag or commit on the hub.
        trust_remote_code: run the Python code that the model brings.
        recipe: one more recipe, to be counted beside the named ones.
        console: where to print; None prints to standard output.

    Raises:
        UserError: the model cannot be built from its config, or has a part that is not known.
    """
    checkpoint = Checkpoint(path, revision, trust_remote_code)
    model = on_meta(checkpoint)
    anatomy = Anatomy.of(model)
    dtype = getattr(getattr(model, "config", None), "dtype", None) or torch.float32
    layers = 1 + max(anatomy.depth.values(), default=0)
    names = [*RECIPES, f"last_{max(1, layers // 4)}", *([] if recipe is None else [recipe])]
    console = console or Console()
    if not console.is_terminal and console.width < _FILE_WIDTH:
        console.width = _FILE_WIDTH
    blocks = len(anatomy.vision_blocks)
    console.print(f"{path}: {type(model).__name__}, {layers} decoder layers, {blocks} vision blocks")
    console.print(groups_table(anatomy))
    console.print(recipes_table(anatomy, [Recipe.parse(name) for name in names], dtype.itemsize))


def in_order(groups: Collection[str], anatomy: Anatomy) -> list[str]:
    """Groups in the order of tables, adapters of a group (``llm.mlp.up.lora``) where it stands."""
    places = list(anatomy.groups)
    return sorted(groups, key=lambda group: (places.index(base_group(group, anatomy)), group))


def base_group(group: str, anatomy: Anatomy) -> str:
    """The group of the model that a group is, or whose adapters it holds."""
    return next(base for base in anatomy.groups if group == base or group.startswith(f"{base}."))


def short_groups(groups: Iterable[str]) -> str:
    """``llm.attn.q, llm.attn.k`` becomes ``llm.attn.{q, k}``."""
    heads: dict[str, list[str]] = {}
    for group in groups:
        head, _, tail = group.rpartition(".")
        heads.setdefault(head, []).append(tail)
    joined = {
        head: tails[0] if len(tails) == 1 else "{" + ", ".join(tails) + "}" for head, tails in heads.items()
    }
    return ", ".join(f"{head}.{tails}" if head else tails.strip("{}") for head, tails in joined.items())


def size_text(size: int) -> str:
    """Bytes in GiB or MiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.1f} MiB"


def count_text(parameters: int) -> str:
    """A number of parameters in billions, millions or thousands."""
    for size, unit, digits in ((1e9, "B", 3), (1e6, "M", 1), (1e3, "K", 1)):
        if parameters >= size:
            return f"{parameters / size:.{digits}f} {unit}"
    return str(parameters)
