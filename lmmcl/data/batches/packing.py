"""Lays the samples of a batch one after the other into few sequences, so that next to nothing is padding."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from lmmcl.data.batches.batch import IGNORED, Batch

_AS_MUCH = 1000
"""Length of a sequence at which attention under a mask is taken to cost as much as all else."""
_MULTIPLES = (1, 2, 3, 4)
"""Lengths of a sequence that are tried, in longest samples."""


def pack(batch: Batch, pad: int, one: bool = False, limit: int | None = None) -> Batch:
    """The same samples, in their order, packed.

    Positions begin again with every sample, and there is no attention mask: transformers then lets no position see one
    of another sample, by a block mask or, in flash attention, by the samples' lengths. Flash attention wants all
    samples in one sequence and costs them alone. Under a mask attention costs the square of a sequence: several
    sequences are laid beside each other, as long as the longest sample, or two to four times, where that saves more.

    Pictures stay as they are: they are met in the order of their samples.

    Args:
        batch: padded, with labels.
        pad: token id of padding.
        one: lay all samples into one sequence.
        limit: of positions, kept where it can be; None: none.
    """
    assert batch.labels is not None
    mask = batch.mask()
    lengths: list[int] = mask.sum(1).tolist()
    sequences = [list(range(len(lengths)))] if one else _laid_out(lengths, limit)
    width = _width(sequences, lengths)
    where = _places(sequences, lengths, width)  # (samples' tokens,)

    def laid(values: Tensor, padding: int) -> Tensor:
        packed = values.new_full((len(sequences) * width, *values.shape[2:]), padding)
        packed[where] = values[mask]
        return packed.reshape(len(sequences), width, *values.shape[2:])

    shape = mask.shape
    inputs = {
        key: laid(value, pad if key == "input_ids" else 0) if _of_tokens(key, value, shape) else value
        for key, value in batch.inputs.items()
        if key != "attention_mask"
    }
    samples = torch.arange(len(lengths))[:, None].expand(shape)
    segments = laid(samples, -1)
    inputs["position_ids"] = _positions(segments)
    # A sample's first token is predicted by nobody: before it stands another sample.
    first = inputs["position_ids"] == 0
    labels = laid(batch.labels, IGNORED).masked_fill(first, IGNORED)
    return replace(batch, inputs=inputs, labels=labels, segments=segments)


def _of_tokens(key: str, value: Any, shape: torch.Size) -> bool:
    """Whether an input has a value for every token; pixels may have the same shape by chance."""
    if not isinstance(value, Tensor) or value.is_floating_point() or key.startswith("pixel_"):
        return False
    return value.shape[:2] == shape


def extent(lengths: Sequence[int], one: bool = False, limit: int | None = None) -> int:
    """Positions of a packed batch of samples in their order, padding included; see `pack`."""
    sequences = [list(range(len(lengths)))] if one else _laid_out(lengths, limit)
    return len(sequences) * _width(sequences, lengths)


def arrange(lengths: Sequence[int], limit: int | None = None) -> list[int]:
    """The order in which samples are best laid into sequences one after the other.

    Args:
        lengths: of the samples.
        limit: of positions; what finds no room in it is left out. None: all are taken.

    Returns:
        positions of the samples.
    """
    longest = max(lengths)
    tried: list[tuple[float, list[list[int]]]] = []
    for size in _sizes(longest, limit):
        sequences = best_fit(lengths, size, None if limit is None else max(1, limit // size))
        tokens = sum(lengths[sample] for sample in chain(*sequences))
        tried.append((_cost(len(sequences), _width(sequences, lengths)) / tokens, sequences))
    return list(chain(*min(tried, key=lambda one: one[0])[1]))


def _laid_out(lengths: Sequence[int], limit: int | None) -> list[list[int]]:
    """The sequences of samples in their order that cost least."""
    laid = [in_turn(lengths, size) for size in _sizes(max(lengths), limit)]
    tried = [(_width(sequences, lengths), sequences) for sequences in laid]
    within = [one for one in tried if limit is None or one[0] * len(one[1]) <= limit]
    return min(within or tried, key=lambda one: _cost(len(one[1]), one[0]))[1]


def _width(sequences: Sequence[Sequence[int]], lengths: Sequence[int]) -> int:
    return max(sum(lengths[sample] for sample in sequence) for sequence in sequences)


def _sizes(longest: int, limit: int | None) -> list[int]:
    """Lengths of a sequence that come into question, the shortest first; with a limit those that use all of it."""
    sizes = [longest * times for times in _MULTIPLES]
    if limit is None:
        return sizes
    beside = [max(1, limit // size) for size in sizes]
    return sorted({max(longest, limit // sequences) for sequences in beside})


def _cost(sequences: int, width: int) -> float:
    """What a forward costs, in positions without attention."""
    return sequences * width * (1 + width / _AS_MUCH)


def in_turn(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Fills sequences one after the other with samples in the given order; none is split, none is passed over.

    Args:
        lengths: of the samples.
        size: most tokens of a sequence; at least the longest sample.
    """
    sequences: list[list[int]] = []
    left = 0
    for sample, length in enumerate(lengths):
        if length > left:
            sequences.append([])
            left = size
        sequences[-1].append(sample)
        left -= length
    return sequences


def best_fit(lengths: Sequence[int], size: int, most: int | None = None) -> list[list[int]]:
    """Deals samples to sequences: the longest first, each into the fullest sequence that has room for it.

    Best-fit decreasing needs at most 11/9 of the fewest possible sequences and one more (Johnson, 1973).

    Args:
        lengths: of the samples.
        size: most tokens of a sequence; a longer sample has one for itself.
        most: sequences at most; what then finds no room is left out. None: any number.

    Returns:
        positions of the samples in each sequence.
    """
    sequences: list[list[int]] = []
    room: list[int] = []
    for sample in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        fitting = [index for index, left in enumerate(room) if left >= lengths[sample]]
        if fitting:
            index = min(fitting, key=lambda place: room[place])
        elif most is None or len(sequences) < most:
            index = len(sequences)
            sequences.append([])
            room.append(size)
        else:
            continue
        sequences[index].append(sample)
        room[index] -= lengths[sample]
    return sequences


def _places(sequences: Sequence[Sequence[int]], lengths: Sequence[int], width: int) -> Tensor:
    """Where each token of the samples, in order, stands among all positions of all sequences."""
    parts: list[Tensor] = []
    for index, sequence in enumerate(sequences):
        start = index * width
        for sample in sequence:
            parts.append(torch.arange(start, start + lengths[sample]))
            start += lengths[sample]
    return torch.cat(parts)


def _positions(segments: Tensor) -> Tensor:
    """(sequences, length) positions inside each sample; padding at the end of a sequence counts as one."""
    places = torch.arange(segments.shape[1]).expand_as(segments)
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return places - torch.where(begins, places, 0).cummax(dim=1).values
