"""TIES: trim each task vector, elect a sign for every weight, and average what agrees with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lmmcl.merge.pieces import Piece, Pieces, landed
from lmmcl.merge.threshold import ALL, NONE, Largest, largest, share_of


@dataclass
class Ballot:
    """Sums over task vectors from which the merge of all of them follows: no vector need be kept.

    Args:
        positive: Σ of the values above 0, fp32.
        negative: Σ of the values below 0, fp32.
        positives: how many are above 0, an integer dtype.
        negatives: how many are below 0.
    """

    positive: Tensor
    negative: Tensor
    positives: Tensor
    negatives: Tensor

    @staticmethod
    def empty(like: Tensor) -> Ballot:
        """Of no vectors."""
        sums = torch.zeros_like(like), torch.zeros_like(like)
        counts = (torch.zeros_like(like, dtype=torch.int16) for _ in range(2))
        return Ballot(*sums, *counts)

    def cast_(self, vector: Tensor) -> None:
        """Adds a trimmed task vector; zeros do not vote."""
        self.positive += vector.clamp(min=0)
        self.negative += vector.clamp(max=0)
        self.positives += vector > 0
        self.negatives += vector < 0

    def mean(self) -> Tensor:
        """The mean of the values whose sign has the greater sum; 0 where the sums are equal."""
        balance = self.positive + self.negative
        up = self.positive / self.positives.clamp(min=1)
        down = self.negative / self.negatives.clamp(min=1)
        return torch.where(balance > 0, up, torch.where(balance < 0, down, 0.0))


def most(tensor: Pieces, keep: float, which: int = 0) -> Largest:
    """The largest values of a task vector; zeros, which change nothing, do not count.

    Args:
        tensor: with task vectors.
        keep: share to keep, in [0, 1].
        which: of the task vectors.
    """
    count = share_of(keep, tensor.numel)
    if count == 0:
        return NONE
    if count >= tensor.numel:
        return ALL
    return largest(
        lambda: (
            (piece.vectors()[which], partial(tensor.positions, piece)) for piece in tensor if tensor.first
        ),
        count,
        tensor.shared,
    )


def trimmed(vector: Tensor, kept: Largest, positions: Callable[[], Tensor]) -> Tensor:
    """A task vector with its largest values only.

    Args:
        vector: some of its values, (values,).
        kept: which those are.
        positions: gives the places of the values, see `lmmcl.merge.pieces.Pieces.positions`.
    """
    return torch.where(kept.holds(vector, positions), vector, 0.0)


def ties(tensor: Pieces, keep: float, weight: float) -> Callable[[Piece], Tensor]:
    """θ_base + λ · disjoint mean of the trimmed task vectors.

    Yadav et al., 2023, arXiv 2306.01708, section 4. The paper trims a task vector as a whole; trimming each tensor for
    itself is our reading, under which a merge needs no more than one tensor of each model.

    Args:
        tensor: with any number of tuned models.
        keep: share of each task vector's values to keep, those of largest magnitude, in [0, 1].
        weight: λ.
    """
    kept = [most(tensor, keep, which) for which in range(tensor.models)]

    def merged(piece: Piece) -> Tensor:
        vectors = piece.vectors()
        ballot = Ballot.empty(vectors[0])
        for vector, largest_of in zip(vectors, kept, strict=True):
            ballot.cast_(trimmed(vector, largest_of, partial(tensor.positions, piece)))
        return landed(piece, vectors, weight * ballot.mean())

    return merged
