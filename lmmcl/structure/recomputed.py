"""Activation checkpointing by part: whose activations the backward pass computes again instead of keeping them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from lmmcl.structure.anatomy import Anatomy

PARTS = ("vision", "llm")


def parts_of(setting: bool | Collection[str]) -> frozenset[str]:
    """The parts that ``model.activation_checkpointing`` names; ``true`` is all."""
    return frozenset(PARTS if setting is True else setting or ())


def recompute(model: nn.Module, anatomy: Anatomy, trained: Collection[str], parts: Collection[str]) -> None:
    """Makes the blocks of the named parts keep their inputs alone, but for a tower in which nothing trains.

    Args:
        model: with its adapters.
        anatomy: of the model as it was loaded.
        trained: names of what any task of the sequence trains.
        parts: of `PARTS`.
    """
    layers = {"vision": anatomy.vision_blocks, "llm": anatomy.decoder_layers}
    chosen = [
        path for part in parts for path in layers[part] if part == "llm" or _vision_trains(anatomy, trained)
    ]
    if not chosen:
        return
    untyped: Any = model
    untyped.activation_checkpointing_enable({"use_reentrant": False})
    # It has made all embeddings' outputs take a gradient, as only reentrant checkpointing needs it: the backward pass
    # would go through every frozen layer, and through a frozen tower, down to the pixels.
    untyped.disable_input_require_grads()
    for path, module in model.named_modules():
        if not hasattr(module, "gradient_checkpointing"):
            continue
        if any(_holds(path, layer) for known in layers.values() for layer in known):
            module.gradient_checkpointing = any(_holds(path, layer) for layer in chosen)
        else:  # what is neither a layer nor around one, such as a resampler's
            module.gradient_checkpointing = len(parts) == len(PARTS)


def _holds(path: str, layer: str) -> bool:
    """Whether a module is a layer, or around it."""
    return path in ("", layer) or layer.startswith(f"{path}.")


def _vision_trains(anatomy: Anatomy, trained: Collection[str]) -> bool:
    """Whether anything in the tower trains: a tensor of its own, or an adapter in a block."""
    own = {name for group, names in anatomy.groups.items() if group.startswith("vision") for name in names}
    blocks = tuple(f"{path}." for path in anatomy.vision_blocks)
    return any(name in own or name.startswith(blocks) for name in trained)
