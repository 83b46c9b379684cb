"""One tensor in memory, whole or this process's shard of it, seen in pieces; merges it in place.

A module of its own, because shards bring in DTensor, which is half as long to import as torch: a merge of files needs
none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from lmmcl.merge import pieces
from lmmcl.merge.pieces import Merge, Piece
from lmmcl.weights import global_index, holds_first, local


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
        for start in range(0, len(self._flat[0]), pieces.LENGTH):
            base, *tuned = (values[start : start + pieces.LENGTH] for values in self._flat)
            yield Piece(start, base, tuned)

    def positions(self, piece: Piece) -> Tensor:
        """See `Pieces.positions`."""
        return global_index(self._whole, piece.start, len(piece.base), piece.base.device)

    def sample(self) -> Piece | None:
        """See `Pieces.sample`: of a shard or on a device, counting all values costs less than a look at some."""
        return None


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
    found = TensorPieces(name, base, [target])
    merged = map(merge(found), found)
    if mine.numel():
        mine.copy_(torch.cat(list(merged)).view(mine.shape))
