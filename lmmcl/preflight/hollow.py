"""A model without weights whose vision tower runs for its shapes: its blocks pass on, its linear layers give zeros."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.landmarks import prefixes


@contextmanager
def hollow(model: nn.Module, anatomy: Anatomy) -> Iterator[None]:
    """Lets a model on the meta device make image features of the right number on the CPU.

    What reads sizes and grids as numbers cannot run on the meta device. Here what stands between the blocks (patch
    embedding, norms, position tables) becomes zeros on the CPU; a block returns what it gets, since it keeps the shape;
    a linear layer returns zeros of its width. The language model stays as it is.

    Args:
        model: on the meta device; as it was when this ends.
        anatomy: of the model.
    """
    blocks, layers = set(anatomy.vision_blocks), set(anatomy.decoder_layers)
    words = {id(part) for part in (_ask(model, "get_input_embeddings"), _ask(model, "get_output_embeddings"))}
    changed: list[tuple[dict[str, Any], str, Any]] = []
    patched: list[nn.Module] = []
    for path, module in model.named_modules():
        around = set(prefixes(path))
        if around & layers or id(module) in words or any(up in blocks for up in around - {path}):
            continue
        if path in blocks:
            module.forward = _pass_on
        elif isinstance(module, nn.Linear):
            module.forward = _zeros_of(module)  # type: ignore[method-assign]  # taken back below
        else:
            for held in (module._parameters, module._buffers):
                for name, tensor in held.items():
                    if tensor is not None and tensor.is_meta:
                        changed.append((held, name, tensor))
            continue
        patched.append(module)
    for held, name, tensor in changed:
        zeros = torch.zeros(tensor.shape, dtype=tensor.dtype)
        held[name] = nn.Parameter(zeros, requires_grad=False) if isinstance(tensor, nn.Parameter) else zeros
    try:
        yield
    finally:
        for held, name, tensor in changed:
            held[name] = tensor
        for module in patched:
            del module.forward


def _pass_on(hidden_states: Tensor, *arguments: Any, **options: Any) -> Tensor:
    return hidden_states


def _zeros_of(layer: nn.Linear) -> Any:
    return lambda inputs: inputs.new_zeros(*inputs.shape[:-1], layer.out_features)


def _ask(model: Any, method: str) -> Any:
    return getattr(model, method)() if hasattr(model, method) else None
