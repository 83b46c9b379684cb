"""The largest values of a tensor, exactly so many of them however it is cut and sharded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor

from lmmcl.merge.counter import words
from lmmcl.merge.lanes import above, at_least, count, equal, places

_LENGTH = 1 << 22
_LOW_BITS = 15
_BINS = 1 << 16
_DIGITS = (48, 32, 16, 0)
"""Where the digits of a 64-bit word begin, the highest first."""

Part = tuple[Tensor, Callable[[], Tensor]]
"""Some values, (values,), and what gives their flat positions in the whole tensor, (values,), int64."""


@dataclass(frozen=True)
class Largest:
    """Which values of a tensor are its largest: those above a magnitude, and a part of those equal to it.

    A tensor of 16-bit numbers has few magnitudes, and the last one that is kept may be that of half of it. Of those
    equal to it, such are taken whose positions have the highest words of `lmmcl.merge.counter`: spread over the tensor,
    the same for every model and every cut.

    Args:
        magnitude: that all of them reach.
        word: that the positions of those equal to it reach; None: all are taken.
    """

    magnitude: float
    word: int | None = None

    def holds(self, values: Tensor, positions: Callable[[], Tensor]) -> Tensor:
        """Which of a part's values are among them, bool, (values,)."""
        size = values.abs()
        if self.word is None:
            return at_least(size, self.magnitude)
        held, same = above(size, self.magnitude), equal(size, self.magnitude)
        if count(same):
            where = places(same)
            held[where] = words_at(positions()[where]) >= self.word
        return held


NONE, ALL = Largest(torch.inf), Largest(0.0)


def largest(
    parts: Callable[[], Iterable[Part]], k: int, shared: bool = False, zeros: bool = False
) -> Largest:
    """The k values of largest magnitude, by counts of the bits of fp32 numbers, which are ordered as they are.

    Args:
        parts: gives this process's values in fp32 whenever it is called; none where another one gives the same.
        k: from 1 to the number of all values.
        shared: whether other processes hold other values; then it is collective.
        zeros: whether it matters which zeros are taken, where some are; otherwise all are, which costs no other look.
    """

    def values() -> Iterator[Tensor]:
        return (found for found, _ in parts())

    high, k, _ = _bin_of(_count((_bits(found) >> _LOW_BITS for found in values()), shared), k)
    inside = (bits[(bits >> _LOW_BITS) == high] & ((1 << _LOW_BITS) - 1) for bits in map(_bits, values()))
    low, k, equal = _bin_of(_count(inside, shared), k)
    magnitude = float(torch.tensor(high << _LOW_BITS | low, dtype=torch.int32).view(torch.float32))
    if k == equal or math.isnan(magnitude) or (magnitude == 0 and not zeros):
        return Largest(magnitude)  # of values that are no numbers none is held
    return Largest(magnitude, _least_word(parts, magnitude, k, shared))


def kept_values(scores: Tensor, keep: float, whole: Tensor) -> Tensor:
    """Which values of a tensor are among its largest; collective where processes share it.

    Args:
        scores: of this process's part of it, fp32; what counts is their magnitude.
        keep: share of all values, in [0, 1].
        whole: the tensor that they are scores of, or another one that is sharded alike.

    Returns:
        bool, of the shape of the scores.
    """
    # Here, because a merge of files needs no shards, which are half as long to import as torch.
    from torch.distributed.tensor import DTensor

    from lmmcl.weights import global_index, holds_first

    k = share_of(keep, whole.numel())
    if k in (0, whole.numel()):
        return torch.full_like(scores, k > 0, dtype=torch.bool)
    flat = scores.reshape(-1)

    def parts() -> Iterator[Part]:
        for start in range(0, len(flat), _LENGTH):
            values = flat[start : start + _LENGTH]
            yield values, partial(global_index, whole, start, len(values), values.device)

    # Where several processes hold the same part, the first of them counts it.
    counted = parts if holds_first(whole) or not isinstance(whole, DTensor) else tuple
    found = largest(counted, k, isinstance(whole, DTensor), zeros=True)
    none = torch.zeros_like(flat[:0], dtype=torch.bool)  # all that a process without a part has
    return torch.cat([none, *(found.holds(*part) for part in parts())]).view(scores.shape)


def share_of(share: float, numel: int) -> int:
    """So many of ``numel`` values are a share of them: rounded, at least one unless the share is 0."""
    return max(1, round(share * numel)) if share else 0


def _least_word(parts: Callable[[], Iterable[Part]], magnitude: float, k: int, shared: bool) -> int:
    """The least of the k highest words among the positions of values of one magnitude, of which there are more."""
    found = shift = 0
    for shift in _DIGITS:
        digits = (
            _digit(words_at(positions()[values.abs() == magnitude]), shift, found)
            for values, positions in parts()
        )
        digit, k, equal = _bin_of(_count(digits, shared), k)
        found = (found << 16 | digit) if shift < _DIGITS[0] else digit - _BINS // 2
        if k == equal:
            break
    return found << shift


def words_at(positions: Tensor) -> Tensor:
    """By which values of one magnitude are ordered, int64, (values,): words of their positions."""
    return words(positions, "largest")


def _digit(word: Tensor, shift: int, above: int) -> Tensor:
    """The digits of the words whose digits above it are known; the highest one carries the sign."""
    if shift == _DIGITS[0]:
        return (word >> shift) + _BINS // 2
    return (word[word >> (shift + 16) == above] >> shift) & (_BINS - 1)


def _bits(values: Tensor) -> Tensor:
    return values.float().abs().contiguous().view(torch.int32)


def _count(parts: Iterable[Tensor], shared: bool) -> Tensor:
    """How many values have each digit, (65536,)."""
    total: Tensor | None = None
    for digits in parts:
        found = torch.bincount(digits, minlength=_BINS)
        total = found if total is None else total + found
    if total is None:
        device = f"cuda:{torch.cuda.current_device()}" if shared and dist.get_backend() == "nccl" else "cpu"
        total = torch.zeros(_BINS, dtype=torch.int64, device=device)
    if shared:
        dist.all_reduce(total)
    return total


def _bin_of(counts: Tensor, k: int) -> tuple[int, int, int]:
    """The highest digit that k values reach, how many of the k have it, and how many of all."""
    reached = counts.flip(0).cumsum(0)
    place = int((reached < k).sum())
    above = int(reached[place - 1]) if place else 0
    return _BINS - 1 - place, k - above, int(reached[place]) - above
