"""One tensor in a base and in tuned models, seen in flat pieces, so that every merge works on files and on shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from lmmcl.merge.model_folder import ModelFolder
from lmmcl.weights import global_index, holds_first, local

LENGTH = 1 << 20
"""Values of a piece: what a merge makes of them on its way stays in the processor's cache."""
_HELD = 1 << 24
"""Values of the largest tensor of a file that is held whole rather than read again for a second look."""


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

    def vectors(self) -> list[Tensor]:
        """The task vectors τ = θ_tuned − θ_base, in fp32."""
        base = self.base.float()
        return [tuned.float() - base for tuned in self.tuned]


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


class TensorPieces:
    """A tensor in memory, or this process's shard of it.

    Args:
        name: of the tensor.
        base: its values in the base.
        tuned: its values in the tuned models, sharded alike.
    """

    def __init__(self, name: str, base: Tensor, tuned: Sequence[Tensor]) -> None:
        self.name = name
        self.models = len(tuned)
        self.numel = base.numel()
        self.shared = isinstance(base, DTensor)
        self.first = not self.shared or holds_first(base)
        self._whole = base
        self._flat = [local(tensor).detach().reshape(-1) for tensor in (base, *tuned)]

    def __iter__(self) -> Iterator[Piece]:
        for start in range(0, len(self._flat[0]), LENGTH):
            base, *tuned = (values[start : start + LENGTH] for values in self._flat)
            yield Piece(start, base, tuned)

    def positions(self, piece: Piece) -> Tensor:
        """See `Pieces.positions`."""
        return global_index(self._whole, piece.start, len(piece.base), piece.base.device)


@torch.no_grad()
def merge_(target: Tensor, base: Tensor, merge: Merge, name: str) -> None:
    """Makes of a tuned tensor its merge with the base, in place and on this process's part.

    Args:
        target: the tuned values; the merged ones afterwards.
        base: the values that the task vector is taken from, sharded alike.
        merge: what to do.
        name: of the tensor.
    """
    mine = local(target)
    pieces = TensorPieces(name, base, [target])
    merged = map(merge(pieces), pieces)
    if mine.numel():
        mine.copy_(torch.cat(list(merged)).view(mine.shape))


def landed(piece: Piece, vectors: Sequence[Tensor], change: Tensor) -> Tensor:
    """θ_base + change in the base's dtype; where the change is all of a task vector or none, no sum rounds it.

    Args:
        piece: of base and tuned values.
        vectors: the task vectors.
        change: what is to be added, (values,).

    Returns:
        (values,): the tuned model's own where a value keeps all of its change, the base's own where it keeps none.
    """
    merged = torch.where(change == 0, piece.base, (piece.base.float() + change).to(piece.base.dtype))
    for tuned, vector in zip(piece.tuned, vectors, strict=True):
        merged = torch.where((change == vector) & (vector != 0), tuned, merged)
    return merged
