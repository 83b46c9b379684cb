"""The largest values of task vectors by one look at all of them, between magnitudes that a sample has told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lmmcl.merge.lanes import magnitude_bits
from lmmcl.merge.pieces import Pieces
from lmmcl.merge.threshold import Largest, words_at

_SPREAD = 12.0
"""Standard deviations of a rank in a sample of independent values, so many that neighbours may be alike."""
_MOST = 5 << 20
"""Values between the two magnitudes that are kept, with their places; beyond, all are counted instead."""


def seen_once(tensor: Pieces, ranks: Sequence[int]) -> list[dict[int, Largest]] | None:
    """What `lmmcl.merge.threshold.largest` gives, exactly, of every task vector, by a single look at the tensor.

    A sample says between which magnitudes the k-th one almost surely lies. The look counts the values above them and
    keeps those between, among which the k-th is found; where it is not among them, or they are too many, the rank is
    left out.

    Args:
        tensor: with task vectors.
        ranks: k, each from 1 to one less than the number of values.

    Returns:
        by task vector, then by rank; None: the tensor gives no sample, or has 2³² values.
    """
    sample = tensor.sample()
    if sample is None or tensor.numel > np.iinfo(np.uint32).max:
        return None
    ordered = [np.sort(magnitude_bits(vector)) for vector in sample.vectors]
    brackets = [[_Bracket.around(rank, bits, tensor.numel) for rank in ranks] for bits in ordered]
    for piece in tensor:
        for vector, around in zip(piece.vectors, brackets, strict=True):
            bits = magnitude_bits(vector)
            for bracket in around:
                bracket.see(bits, piece.start)
    return [{b.rank: found for b in around if (found := b.largest())} for around in brackets]


@dataclass
class _Bracket:
    """Two magnitudes, as bits, and what was seen between them.

    Args:
        rank: k.
        low: the smaller magnitude.
        high: the larger one.
    """

    rank: int
    low: int
    high: int
    above: int = 0
    between: int = 0
    bits: list[NDArray[np.int32]] = field(default_factory=list)
    places: list[NDArray[np.uint32]] = field(default_factory=list)

    @classmethod
    def around(cls, rank: int, ordered: NDArray[np.int32], numel: int) -> _Bracket:
        """From a sample's magnitudes in ascending order."""
        size, share = len(ordered), rank / numel
        middle = size - share * size
        margin = 1 + _SPREAD * (size * share * (1 - share)) ** 0.5
        first, last = int(middle - margin), int(middle + margin) + 1
        low = int(ordered[first]) if first >= 0 else 0
        high = int(ordered[last]) if last < size else np.iinfo(np.int32).max
        return cls(rank, low, high)

    def see(self, bits: NDArray[np.int32], start: int) -> None:
        """Takes in a piece's magnitudes, which begin at a position."""
        over = np.greater(bits, np.int32(self.high))
        self.above += int(np.count_nonzero(over))
        inside = np.greater_equal(bits, np.int32(self.low))
        np.logical_xor(inside, over, out=inside)  # what is over is not below
        self.between += int(np.count_nonzero(inside))
        if self.between <= _MOST:
            places = np.flatnonzero(inside)
            self.bits.append(bits[places])
            self.places.append((places + start).astype(np.uint32))
        else:
            self.bits, self.places = [], []

    def largest(self) -> Largest | None:
        """The values of the rank, if it lies between the two."""
        rank = self.rank - self.above
        if not 1 <= rank <= self.between or self.between > _MOST:
            return None
        kth, more, same = _placed(np.concatenate(self.bits), rank)
        magnitude = float(np.int32(kth).view(np.float32))
        if rank - more == same or magnitude == 0:
            return Largest(magnitude)
        # Piece by piece: there may be millions of them, and a word on its way takes many times a place's memory.
        seen = zip(self.bits, self.places, strict=True)
        words = [_words(places[bits == kth]) for bits, places in seen]
        return Largest(magnitude, _placed(np.concatenate(words), rank - more)[0])


def _placed(values: NDArray[Any], rank: int) -> tuple[int, int, int]:
    """The value of a rank, from the largest on, how many are above it, and how many are equal; reorders them."""
    place = len(values) - rank
    values.partition(place)
    found = values[place]
    return int(found), int(np.count_nonzero(values > found)), int(np.count_nonzero(values == found))


def _words(places: NDArray[np.uint32]) -> NDArray[np.int64]:
    words: NDArray[np.int64] = words_at(torch.from_numpy(places.astype(np.int64))).numpy()
    return words
