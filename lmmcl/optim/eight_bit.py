"""Numbers in 8 bits: codes of a fixed map of values, times a scale for every block of a row."""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 256
"""Numbers of a row that share a scale (Dettmers et al., 2022, arXiv 2110.02861, use 2,048; torchao and this 256)."""
_DECADES = 7


@cache
def values_of(signed: bool, device: torch.device) -> Tensor:
    """The 256 values in [-1, 1] or [0, 1], rising: decades, each with twice the values of the one below it.

    Dynamic tree quantization (Dettmers, 2016, arXiv 1511.04561), as bitsandbytes builds it.
    """
    values = [0.0, 1.0]
    for decade in range(_DECADES):
        edges = torch.linspace(0.1, 1, 2 ** (decade + (0 if signed else 1)) + 1, dtype=torch.float64)
        middles = ((edges[:-1] + edges[1:]) / 2 * 10.0 ** (decade - _DECADES + 1)).tolist()
        values += [*middles, *(-value for value in middles)] if signed else middles
    return torch.tensor(sorted(values), dtype=torch.float32, device=device)


def blocks_of(shape: torch.Size | tuple[int, ...]) -> int:
    """Blocks of each row of a tensor (rows, ...)."""
    return -(-(torch.Size(shape[1:]).numel()) // BLOCK)


def decode(codes: Tensor, scales: Tensor, signed: bool) -> Tensor:
    """Numbers (rows, n) in fp32 of codes (rows, n) in uint8 and scales (rows, blocks)."""
    rows, width = codes.shape
    values = values_of(signed, codes.device)[codes.int()]
    padded = functional.pad(values, (0, scales.shape[1] * BLOCK - width)).view(rows, -1, BLOCK)
    return (padded * scales[:, :, None]).view(rows, -1)[:, :width]


def encode_(
    codes: Tensor, scales: Tensor, numbers: Tensor, signed: bool, chance: Tensor | None = None
) -> None:
    """Writes the codes and scales that stand for numbers.

    Args:
        codes: (rows, n) in uint8.
        scales: (rows, blocks): the largest magnitude of each block.
        numbers: (rows, n) in fp32.
        signed: whether numbers may be below 0.
        chance: (rows, n) in [0, 1): a number goes to one of its two neighbours at random, so that the mean stays
            right; None: to the nearer one.
    """
    rows, width = numbers.shape
    padded = functional.pad(numbers, (0, scales.shape[1] * BLOCK - width)).view(rows, -1, BLOCK)
    scales.copy_(padded.abs().amax(dim=-1))
    unit = padded / scales.clamp(min=torch.finfo(torch.float32).tiny)[:, :, None]
    unit = unit.view(rows, -1)[:, :width].contiguous()
    values = values_of(signed, numbers.device)
    below = (torch.bucketize(unit, values, right=True, out_int32=True) - 1).clamp_(0, len(values) - 2)
    low, high = values[below], values[below + 1]
    share = (unit - low) / (high - low)
    codes.copy_(below + (share > (0.5 if chance is None else chance)))
