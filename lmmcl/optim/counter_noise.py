"""Random bits that follow from a key and an element's place in its whole tensor: the same however it is sharded."""

import hashlib

import torch
from torch import Tensor

from lmmcl.weights import global_index

_MULTIPLIERS = (-7046029254386353131, -4658895280553007687, -7723592293110705685)  # those of splitmix64


def key_of(*parts: int | str) -> int:
    """A 63-bit key of numbers and texts."""
    text = "\n".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def noise(key: int, tensor: Tensor, start: int, count: int, device: torch.device) -> Tensor:
    """64 random bits for each of ``count`` elements of the local part of a tensor, beginning at ``start``; int64.

    splitmix64 (Steele et al., 2014) of the element's place in the whole tensor, from a key.
    """
    words = (global_index(tensor, start, count, device) + 1) * _MULTIPLIERS[0] + key
    for shift, multiplier in zip((30, 27), _MULTIPLIERS[1:], strict=True):
        words = (words ^ _shifted(words, shift)) * multiplier
    return words ^ _shifted(words, 31)


def unit(words: Tensor) -> Tensor:
    """Numbers in [0, 1) in fp32 from the upper bits of random words."""
    return _shifted(words, 40).float() * 2.0**-24


def round_stochastically(values: Tensor, words: Tensor) -> Tensor:
    """fp32 to bf16, up or down at random so that the mean stays right; what bf16 can hold stays as it is.

    Args:
        values: in fp32.
        words: as many random words, of which the lowest 16 bits are used.
    """
    # A bf16 is the upper half of an fp32: random bits added to the lower half carry over as often as they should.
    bits = (values.view(torch.int32) + (words & 0xFFFF).int()) & -0x10000
    return torch.where(values.isfinite(), bits.view(torch.float32), values).bfloat16()


def _shifted(words: Tensor, by: int) -> Tensor:
    """Shifts right and fills with zeros."""
    return (words >> by) & ((1 << (64 - by)) - 1)
