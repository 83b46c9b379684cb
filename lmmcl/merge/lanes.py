"""Comparisons and choices, value by value; on the CPU by numpy, which takes many values at once where torch takes one.

Ten passes of such kinds are most of what a merge computes. On other devices they are torch's own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def equal(values: Tensor, other: Tensor | float) -> Tensor:
    """``values == other``, bool; of a dtype that numpy has, such as fp32."""
    if values.device.type != "cpu":
        return values == other
    return torch.from_numpy(np.equal(_array(values), _array(other)))


def above(values: Tensor, limit: float) -> Tensor:
    """``values > limit``, bool; of a dtype that numpy has."""
    if values.device.type != "cpu":
        return values > limit
    return torch.from_numpy(np.greater(_array(values), limit))


def at_least(values: Tensor, limit: float) -> Tensor:
    """``values >= limit``, bool; of a dtype that numpy has."""
    if values.device.type != "cpu":
        return values >= limit
    return torch.from_numpy(np.greater_equal(_array(values), limit))


def chosen(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """``torch.where(mask, yes, no)`` of two tensors of one shape and dtype, which may be any."""
    if yes.device.type != "cpu":
        return torch.where(mask, yes, no)
    other = _words(no)
    odd = np.bitwise_xor(_words(yes), other)
    np.multiply(odd, _array(mask), out=odd)
    np.bitwise_xor(odd, other, out=odd)
    return torch.from_numpy(odd).view(yes.dtype)


def kept(mask: Tensor, values: Tensor) -> Tensor:
    """``torch.where(mask, values, 0)``, of any dtype."""
    if values.device.type != "cpu":
        return torch.where(mask, values, torch.zeros((), dtype=values.dtype, device=values.device))
    return torch.from_numpy(np.multiply(_words(values), _array(mask))).view(values.dtype)


def count(mask: Tensor) -> int:
    """How many are true."""
    return int(np.count_nonzero(_array(mask))) if mask.device.type == "cpu" else int(mask.sum())


def places(mask: Tensor) -> Tensor:
    """Where a flat mask is true, (count,), int64."""
    if mask.device.type != "cpu":
        return mask.nonzero().squeeze(1)
    return torch.from_numpy(np.flatnonzero(_array(mask)))


def magnitude_bits(values: Tensor) -> NDArray[np.int32]:
    """The bits of the magnitudes of fp32 values on the CPU, ordered as the magnitudes are."""
    words: NDArray[np.int32] = _words(values)
    return np.bitwise_and(words, np.int32(0x7FFFFFFF))


def _array(values: Tensor | float) -> Any:
    return values.detach().numpy() if isinstance(values, Tensor) else values


def _words(values: Tensor) -> Any:
    """The memory of a tensor as integers of its values' width."""
    return values.detach().view(_WORDS[values.element_size()]).numpy()
