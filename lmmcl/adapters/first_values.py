"""First values of an adapter, by a counter of its own: the same on whatever device its model is built."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lmmcl.data.batches.order import draw


def kaiming_uniform_(weight: Tensor, seed: int, name: str) -> None:
    """Those of LoRA's A; does nothing on the meta device.

    Args:
        weight: of a linear layer.
        seed: of the run.
        name: of the parameter.
    """
    _draw_(
        weight,
        seed,
        name,
        lambda values, source: nn.init.kaiming_uniform_(values, math.sqrt(5), generator=source),
    )


def normal_(weight: Tensor, spread: float, seed: int, name: str) -> None:
    """N(0, spread); as `kaiming_uniform_`."""
    _draw_(weight, seed, name, lambda values, source: values.normal_(0, spread, generator=source))


@torch.no_grad()
def _draw_(weight: Tensor, seed: int, name: str, fill: Callable[[Tensor, torch.Generator], Tensor]) -> None:
    """Drawn in the host's memory: a GPU has another stream of numbers, and refuses a generator of the host."""
    if weight.device.type == "meta":
        return
    source = torch.Generator().manual_seed(int(draw(1, seed, name, "adapter")[0] >> 1))
    weight.copy_(fill(torch.empty(weight.shape, dtype=weight.dtype, device="cpu"), source))
