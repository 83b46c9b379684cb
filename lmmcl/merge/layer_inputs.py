"""Second moments of what flows into linear layers, over a few samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from lmmcl.agreement import agreed
from lmmcl.data.batches.collate import Collator
from lmmcl.data.row import Row
from lmmcl.data_parallel import sum_over_shares
from lmmcl.model import ContinualLMM
from lmmcl.outputs.forward import AnswerForward
from lmmcl.weights import whole


@torch.no_grad()
def second_moments(module: ContinualLMM, rows: Sequence[Row], paths: Sequence[str]) -> dict[str, Tensor]:
    """Σ x xᵀ over all tokens x that reach a linear layer while the model reads rows with their answers; collective.

    Processes deal the rows among themselves, but for FSDP2, whose layers run together: there all read the same rows.
    One forward a row, without padding.

    Args:
        module: between two optimizer steps.
        rows: the same on every process.
        paths: of linear layers.

    Returns:
        (inputs, inputs) in fp32 by path, up to a common factor; zeros where nothing came by.
    """
    sharded = any(isinstance(parameter, DTensor) for parameter in module.model.parameters())
    dealt = dist.is_initialized() and not sharded
    mine = rows[dist.get_rank() :: dist.get_world_size()] if dealt else rows
    summed = _summed(module.model, paths, module.device)
    with summed as sums, agreed() if dealt else nullcontext(), module.inference(gather=False):
        for row in mine:
            module.token_outputs(module.data.collator.train([row]).to(module.device))
            module.free_gathered()
    for total in sums.values():
        sum_over_shares(total)
    return {path: total.float() for path, total in sums.items()}


@torch.no_grad()
def moments_alone(
    model: nn.Module, forwards: AnswerForward, collator: Collator, rows: Sequence[Row], paths: Sequence[str]
) -> dict[str, Tensor]:
    """`second_moments` of a model that no trainer holds, on one process.

    Args:
        model: that the forwards run.
        forwards: of the model.
        collator: makes batches of rows.
        rows: with answers.
        paths: of linear layers.
    """
    with _summed(model, paths, forwards.device) as sums, forwards.inference(gather=False):
        for row in rows:
            forwards.token_outputs(collator.train([row]).to(forwards.device))
    return {path: total.float() for path, total in sums.items()}


@contextmanager
def _summed(model: nn.Module, paths: Sequence[str], device: torch.device) -> Iterator[dict[str, Tensor]]:
    """Sums Σ x xᵀ of layers, by path, over all forwards inside the block."""
    sums: dict[str, Tensor] = {}
    hooks = []
    try:
        for path in paths:
            layer = model.get_submodule(path)
            assert isinstance(layer, nn.Linear)
            # In fp64, so that the order of the rows, which depends on the processes, leaves no trace in fp32.
            shape = layer.in_features, layer.in_features
            sums[path] = torch.zeros(shape, dtype=torch.float64, device=device)
            hooks.append(layer.register_forward_pre_hook(_adding(sums[path])))
        yield sums
    finally:
        for hook in hooks:
            hook.remove()


def _adding(total: Tensor) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def add(layer: nn.Module, given: tuple[Any, ...]) -> None:
        with torch.autocast(total.device.type, enabled=False):
            tokens = whole(given[0]).reshape(-1, len(total)).float()
            total.add_(tokens.T @ tokens)

    return add
