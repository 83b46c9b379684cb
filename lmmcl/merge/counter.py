"""Random numbers by position: the same however a tensor is cut, sharded and ordered."""

import numpy as np
from torch import Tensor

from lmmcl.data.batches.order import draw

_STEP = -7046029254386353131  # 0x9E3779B97F4A7C15
_FIRST = -4658895280553007687  # 0xBF58476D1CE4E5B9
_SECOND = -7723592293110705685  # 0x94D049BB133111EB


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
    return _shifted(words(positions, *key), 32) < round(probability * 2**32)


def words(positions: Tensor, *key: int | str) -> Tensor:
    """A random 64-bit word for each position, those of no two the same.

    Args:
        positions: from 0, int64, of any shape.
        key: what they are drawn for.

    Returns:
        int64, of the shape of the positions.
    """
    seed = int(draw(1, *key).view(np.int64)[0])
    word = (positions + 1) * _STEP + seed
    word = (word ^ _shifted(word, 30)) * _FIRST
    word = (word ^ _shifted(word, 27)) * _SECOND
    return word ^ _shifted(word, 31)


def _shifted(word: Tensor, bits: int) -> Tensor:
    """To the right, with zeros coming in: torch's own shift keeps the sign."""
    return (word >> bits) & ((1 << (64 - bits)) - 1)
