"""One tensor in a base and in tuned models, seen in flat pieces, so that every merge works on files and on shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from lmmcl.merge.lanes import chosen, count, equal
from lmmcl.merge.model_folder import ModelFolder

LENGTH = 1 << 18
"""Values of a piece: what a merge makes of them on its way stays in the processor's cache."""
_HELD = 1 << 22
"""Values of the largest tensor of a file that is held whole rather than read again for a second look."""
_RUNS, _RUN = (256, 1024), 1024
"""Fewest and most runs of neighbouring values in a sample, and values of each."""


@dataclass(frozen=True)
class Piece:
    """Some neighbouring values of one tensor.

    Args:
        start: position of the first in this process's flattened part.
        base: their values in the base, (values,), as stored.
        tuned: their values in each tuned model.
    """

    start: int
    base: Tensor
    tuned: Sequence[Tensor]

    @cached_property
    def in_fp32(self) -> list[Tensor]:
        """The base's values and those of each tuned model, (values,), fp32; read them only."""
        return [values.float() for values in (self.base, *self.tuned)]

    @cached_property
    def vectors(self) -> list[Tensor]:
        """The task vectors τ = θ_tuned − θ_base, (values,), fp32; read them only."""
        base, *tuned = self.in_fp32
        return [values - base for values in tuned]


class Pieces(Protocol):
    """All pieces of this process's part of a tensor; they can be gone through more than once.

    Attributes:
        name: of the tensor.
        numel: values of the whole tensor, over all processes.
        models: how many tuned models there are.
        shared: whether other processes hold other parts of it.
        first: whether this process counts its part: several may hold the same.
    """

    name: str
    numel: int
    models: int
    shared: bool
    first: bool

    def __iter__(self) -> Iterator[Piece]: ...

    def positions(self, piece: Piece) -> Tensor:
        """Flat positions of a piece's values in the whole tensor, (values,), int64."""

    def sample(self) -> Piece | None:
        """Values from all over the tensor, which is on the CPU and in no other process; None: count them all."""


Merge = Callable[[Pieces], Callable[[Piece], Tensor]]
"""Looks at a whole tensor and gives what makes the merged values of a piece, (values,), in the base's dtype.

The look is collective where pieces are shared; what it gives is not.
"""


class FilePieces:
    """A tensor in files.

    Args:
        key: of the tensor, the same in all models.
        base: the base model.
        tuned: the tuned models.
    """

    shared = False
    first = True

    def __init__(self, key: str, base: ModelFolder, tuned: Sequence[ModelFolder]) -> None:
        self.name = key
        self.models = len(tuned)
        self._models = [base, *tuned]
        self.numel = torch.Size(base.shape(key)).numel()
        self._held: list[Tensor] | None = None

    def __iter__(self) -> Iterator[Piece]:
        if self._held is None and self.numel <= _HELD:  # there will be a second look
            self._held = [model.part(self.name) for model in self._models]
        return map(self.at, self.starts())

    def starts(self) -> range:
        """Where its pieces begin."""
        return range(0, self.numel, LENGTH)

    def at(self, start: int) -> Piece:
        """The piece that begins there; threads may ask at once."""
        stop = min(start + LENGTH, self.numel)
        if self._held is None:
            base, *tuned = (model.part(self.name, start, stop) for model in self._models)
        else:
            base, *tuned = (values[start:stop] for values in self._held)
        return Piece(start, base, tuned)

    def positions(self, piece: Piece) -> Tensor:
        """See `Pieces.positions`."""
        return torch.arange(piece.start, piece.start + len(piece.base))

    def sample(self) -> Piece | None:
        """See `Pieces.sample`."""
        if self.numel < 4 * _RUNS[0] * _RUN:  # all of them cost no more
            return None
        runs = min(max(_RUNS[0], self.numel >> 17), _RUNS[1])
        starts = range(0, self.numel - _RUN, self.numel // runs)
        base, *tuned = (
            torch.cat([model.part(self.name, start, start + _RUN) for start in starts])
            for model in self._models
        )
        return Piece(0, base, tuned)


def landed(piece: Piece, vectors: Sequence[Tensor], change: Tensor) -> Tensor:
    """θ_base + change in the base's dtype; where the change is all of a task vector or none, no sum rounds it.

    Args:
        piece: of base and tuned values.
        vectors: the task vectors.
        change: what is to be added, (values,) or, as all else, in the shape of the tensor.

    Returns:
        like ``change``: the tuned model's own where a value keeps all of its change, the base's where it keeps none.
    """
    if change.dim() != 1:
        flat = Piece(piece.start, piece.base.flatten(), [tuned.flatten() for tuned in piece.tuned])
        return landed(flat, [vector.flatten() for vector in vectors], change.flatten()).view(change.shape)
    none = equal(change, 0.0)
    if len(vectors) == 1 and count(none | equal(change, vectors[0])) == len(none):
        return chosen(none, piece.base, piece.tuned[0])
    merged = (piece.in_fp32[0] + change).to(piece.base.dtype)
    merged = chosen(none, piece.base, merged) if count(none) else merged
    for tuned, vector in zip(piece.tuned, vectors, strict=True):
        whole = equal(change, vector) & ~none
        merged = chosen(whole, tuned, merged) if count(whole) else merged
    return merged
