"""Has every forward of a model counted in operations, by the shapes that its hooks see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.utils.hooks import RemovableHandle

from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.flops import Flops, patch_embedding


def watch(
    model: nn.Module,
    anatomy: Anatomy,
    parameters: Mapping[str, Parameter],
    flops: Callable[[], Flops],
    add: Callable[[int | Tensor], None],
) -> list[RemovableHandle]:
    """Has every forward of a model counted, with its backward where it records a gradient.

    Pictures are counted where their patches are embedded: generation shows them to the tower apart from the forward.

    Args:
        model: as `Flops` takes it.
        anatomy: of it.
        parameters: by name.
        flops: asked at every forward, since what trains may change.
        add: gets the operations; of attention among packed samples a tensor on their device, for which nobody waits.

    Returns:
        handles to remove.
    """
    pictures = [0]

    def language(model: nn.Module, arguments: Any, inputs: Mapping[str, Any]) -> None:
        samples, length, past = positions_of(inputs)
        gradient, packed = torch.is_grad_enabled(), _plain_positions(inputs)
        if packed is None or past:
            add(flops().count_positions(samples, length, past, gradient))
            return
        add(flops().count_tokens(samples * length, gradient))
        # The odd numbers up to 2n − 1 add up to n squared, for every sample whose positions begin again.
        add((2 * packed + 1).sum() * flops().of_a_pair(gradient))

    def head(module: nn.Module, arguments: Any, logits: Any) -> None:
        if isinstance(logits, Tensor):
            add(flops().count_head(logits.numel(), torch.is_grad_enabled()))

    def tower(module: nn.Module, arguments: tuple[Any, ...], inputs: Mapping[str, Any]) -> None:
        # Packed pictures (Qwen's): what tells them apart is a table (pictures, 3) of their sizes.
        given = (t for t in (*arguments, *inputs.values()) if isinstance(t, Tensor) and t.dim() == 2)
        sizes = next((t for t in given if t.shape[1] == 3 and not t.is_floating_point()), None)
        pictures[0] = 0 if sizes is None else int(sizes.shape[0])

    def patches(module: nn.Module, arguments: Any, embedded: Tensor) -> None:
        number = embedded.numel() // width
        if embedded.dim() == 4:
            one = int(embedded.shape[2] * embedded.shape[3])
        else:
            one = int(embedded.shape[1]) if embedded.dim() == 3 else number // max(1, pictures[0])
        add(flops().count_patches(number, one, torch.is_grad_enabled()))

    hooks = [
        model.register_forward_pre_hook(language, with_kwargs=True),
        model.get_output_embeddings().register_forward_hook(head),  # type: ignore[operator]  # untyped in transformers
    ]
    name = patch_embedding(anatomy, parameters)
    if name is not None:
        width = int(parameters[name].shape[0])
        path = name.rpartition(".")[0]
        block = (anatomy.vision_blocks or [path])[0]
        pairs = zip(path.split("."), block.split("."), strict=False)
        root = [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
        hooks.append(model.get_submodule(path).register_forward_hook(patches))
        hooks.append(model.get_submodule(".".join(root)).register_forward_pre_hook(tower, with_kwargs=True))
    return hooks


def positions_of(inputs: Mapping[str, Any]) -> tuple[int, int, int]:
    """Samples, positions of each, and positions in the cache, of a forward with these keyword arguments."""
    tokens = inputs.get("input_ids")
    tokens = inputs.get("inputs_embeds") if tokens is None else tokens
    cache: Any = inputs.get("past_key_values")
    past = int(cache.get_seq_length()) if hasattr(cache, "get_seq_length") else 0
    return (0, 0, past) if tokens is None else (int(tokens.shape[0]), int(tokens.shape[1]), past)


def _plain_positions(inputs: Mapping[str, Any]) -> Tensor | None:
    """(sequences, length) places in the samples of a packed batch, see `lmmcl.outputs.packed_inputs`."""
    places = inputs.get("position_ids")
    if not isinstance(places, Tensor) or inputs.get("attention_mask") is not None:
        return None
    if places.dim() == 3 and places.shape[0] == 4:
        return places[0]
    return places if places.dim() == 2 else None
