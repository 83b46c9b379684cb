"""TIES: trim each task vector, elect a sign for every weight, and average what agrees with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lmmcl.merge.pieces import Piece, Pieces, landed
from lmmcl.merge.threshold import kth_largest, share_of


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


def least_kept(tensor: Pieces, keep: float, which: int = 0) -> float:
    """The magnitude from which on a task vector's values are kept: ``keep`` of them are, and those equal to the last.

    Args:
        tensor: with task vectors.
        keep: share to keep, in [0, 1].
        which: of the task vectors.
    """
    count = share_of(keep, tensor.numel)
    if count == 0:
        return torch.inf
    if count >= tensor.numel:
        return 0.0
    return kth_largest(lambda: (piece.vectors()[which] for piece in tensor), count, tensor.shared)


def trimmed(vector: Tensor, least: float) -> Tensor:
    """A task vector without the values whose magnitude is below ``least``."""
    return torch.where(vector.abs() >= least, vector, 0.0)


def ties(tensor: Pieces, keep: float, weight: float) -> Callable[[Piece], Tensor]:
    """θ_base + λ · disjoint mean of the trimmed task vectors.

    Yadav et al., 2023, arXiv 2306.01708, section 4. The paper trims a task vector as a whole; trimming each tensor for
    itself is our reading, under which a merge needs no more than one tensor of each model.

    Args:
        tensor: with any number of tuned models.
        keep: share of each task vector's values to keep, those of largest magnitude, in [0, 1].
        weight: λ.
    """
    least = [least_kept(tensor, keep, which) for which in range(tensor.models)]

    def merged(piece: Piece) -> Tensor:
        vectors = piece.vectors()
        ballot = Ballot.empty(vectors[0])
        for vector, limit in zip(vectors, least, strict=True):
            ballot.cast_(trimmed(vector, limit))
        return landed(piece, vectors, weight * ballot.mean())

    return merged
