"""The magnitude that so many values of a tensor reach, exact however the tensor is cut and sharded."""

from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist
from torch import Tensor

_LOW_BITS = 15
_BINS = 1 << 16


def kth_largest(parts: Callable[[], Iterable[Tensor]], k: int, shared: bool = False) -> float:
    """The k-th largest magnitude, by two counts of the bits of fp32 numbers, which are ordered as they are.

    Args:
        parts: gives this process's values in fp32, (values,) each, whenever it is called.
        k: from 1 to the number of all values.
        shared: whether other processes hold other values; then it is collective.

    Returns:
        The magnitude. At least k values reach it; more only where several are equal to it.
    """
    high, above = _bin_of(_count(parts, lambda bits: bits >> _LOW_BITS, shared), k)
    inside = _count(lambda: (v[(_bits(v) >> _LOW_BITS) == high] for v in parts()), _low, shared)
    low, _ = _bin_of(inside, k - above)
    return float(torch.tensor(high << _LOW_BITS | low, dtype=torch.int32).view(torch.float32))


def share_of(share: float, numel: int) -> int:
    """So many of ``numel`` values are a share of them: rounded, at least one unless the share is 0."""
    return max(1, round(share * numel)) if share else 0


def _bits(values: Tensor) -> Tensor:
    return values.float().abs().contiguous().view(torch.int32)


def _low(bits: Tensor) -> Tensor:
    return bits & ((1 << _LOW_BITS) - 1)


def _count(parts: Callable[[], Iterable[Tensor]], digit: Callable[[Tensor], Tensor], shared: bool) -> Tensor:
    """How many values have each digit, (65536,)."""
    total: Tensor | None = None
    for values in parts():
        found = torch.bincount(digit(_bits(values)), minlength=_BINS)
        total = found if total is None else total + found
    if total is None:
        device = f"cuda:{torch.cuda.current_device()}" if shared and dist.get_backend() == "nccl" else "cpu"
        total = torch.zeros(_BINS, dtype=torch.int64, device=device)
    if shared:
        dist.all_reduce(total)
    return total


def _bin_of(counts: Tensor, k: int) -> tuple[int, int]:
    """The highest digit that k values reach, and how many have a higher one."""
    reached = counts.flip(0).cumsum(0)
    place = int((reached < k).sum())
    return _BINS - 1 - place, int(reached[place - 1]) if place else 0
