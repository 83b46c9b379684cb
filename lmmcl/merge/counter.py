"""Random numbers by position: the same however a tensor is cut, sharded and ordered."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmmcl.data.batches.order import draw

_STEP = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_CHUNK = 1 << 15
"""Positions whose words stay in the processor's cache."""


def happens(positions: Tensor, probability: float, *key: int | str) -> Tensor:
    """Independent events, one at each position.

    The numbers are those of splitmix64 (Steele et al., 2014), of which each is a function of its place in the stream.

    Args:
        positions: from 0, int64, of any shape.
        probability: of each event, in [0, 1], kept to 32 bits.
        key: what the events are drawn for, as in `lmmcl.data.batches.order.draw`.

    Returns:
        bool, of the shape of the positions.
    """
    limit = round(probability * 2**32)
    if positions.device.type != "cpu" or limit == 2**32:
        return _shifted(words(positions, *key), 32) < limit
    flat = positions.reshape(-1).numpy().view(np.uint64)
    found, seed = np.empty(len(flat), dtype=np.bool_), np.uint64(_seed(*key))
    for start in range(0, len(flat), _CHUNK):
        mixed = _mixed(flat[start : start + _CHUNK], seed)
        np.less(mixed, np.uint64(limit << 32), out=found[start : start + _CHUNK])
    return torch.from_numpy(found).view(positions.shape)


def words(positions: Tensor, *key: int | str) -> Tensor:
    """A random 64-bit word for each position, those of no two the same.

    Args:
        positions: from 0, int64, of any shape.
        key: what they are drawn for.

    Returns:
        int64, of the shape of the positions.
    """
    word = (positions + 1) * _signed(_STEP) + _signed(_seed(*key))
    word = (word ^ _shifted(word, 30)) * _signed(_FIRST)
    word = (word ^ _shifted(word, 27)) * _signed(_SECOND)
    return word ^ _shifted(word, 31)


@lru_cache
def _seed(*key: int | str) -> int:
    return int(draw(1, *key)[0])


def _mixed(positions: NDArray[np.uint64], seed: np.uint64) -> NDArray[np.uint64]:
    """`words` on the CPU, whose shifts bring in zeros by themselves."""
    word = positions + np.uint64(1)
    word *= np.uint64(_STEP)
    word += seed
    high = word >> np.uint64(30)
    word ^= high
    word *= np.uint64(_FIRST)
    word ^= np.right_shift(word, np.uint64(27), out=high)
    word *= np.uint64(_SECOND)
    word ^= np.right_shift(word, np.uint64(31), out=high)
    return word


def _signed(word: int) -> int:
    """The int64 of the same bits, which is what torch multiplies by."""
    return word - 2**64 if word >= 2**63 else word


def _shifted(word: Tensor, bits: int) -> Tensor:
    """To the right, with zeros coming in: torch's own shift keeps the sign."""
    return (word >> bits) & ((1 << (64 - bits)) - 1)
