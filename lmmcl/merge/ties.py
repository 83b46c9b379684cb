"""TIES: trim each task vector, elect a sign for every weight, and average what agrees with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lmmcl.merge.bracket import seen_once
from lmmcl.merge.lanes import above, kept
from lmmcl.merge.pieces import Piece, Pieces, landed
from lmmcl.merge.task_arithmetic import scaled
from lmmcl.merge.threshold import ALL, NONE, Largest, Part, largest, share_of


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
        self.positives += above(vector, 0.0)
        self.negatives += above(-vector, 0.0)

    def mean(self) -> Tensor:
        """The mean of the values whose sign has the greater sum; 0 where the sums are equal."""
        balance = self.positive + self.negative
        up = self.positive / self.positives.clamp(min=1)
        down = self.negative / self.negatives.clamp(min=1)
        return kept(above(balance, 0.0), up) + kept(above(-balance, 0.0), down)


def most(tensor: Pieces, *shares: float) -> list[list[Largest]]:
    """The largest values of each task vector; zeros, which change nothing, do not count.

    Args:
        tensor: with task vectors.
        shares: to keep, each in [0, 1].

    Returns:
        by task vector and share.
    """
    counts = [min(share_of(share, tensor.numel), tensor.numel) for share in shares]
    plain = {0: NONE, tensor.numel: ALL}
    ranks = sorted({rank for rank in counts if rank not in plain})
    found = (seen_once(tensor, ranks) if ranks else None) or [{} for _ in range(tensor.models)]
    for which, held in enumerate(found):
        for rank in ranks:
            if rank not in held:
                held[rank] = largest(partial(_parts, tensor, which), rank, tensor.shared)
    return [[plain.get(rank) or held[rank] for rank in counts] for held in found]


def _parts(tensor: Pieces, which: int) -> Iterator[Part]:
    """A task vector's values and places."""
    if tensor.first:
        for piece in tensor:
            yield piece.vectors[which], partial(tensor.positions, piece)


def trimmed(vector: Tensor, of: Largest, positions: Callable[[], Tensor]) -> Tensor:
    """A task vector with its largest values only.

    Args:
        vector: some of its values, (values,).
        of: which those are.
        positions: gives the places of the values, see `lmmcl.merge.pieces.Pieces.positions`.
    """
    return kept(of.holds(vector, positions), vector)


def ties(tensor: Pieces, keep: float, weight: float) -> Callable[[Piece], Tensor]:
    """θ_base + λ · disjoint mean of the trimmed task vectors.

    Yadav et al., 2023, arXiv 2306.01708, section 4. The paper trims a task vector as a whole; trimming each tensor for
    itself is our reading, under which a merge needs no more than one tensor of each model.

    Args:
        tensor: with any number of tuned models.
        keep: share of each task vector's values to keep, those of largest magnitude, in [0, 1].
        weight: λ.
    """
    limits = most(tensor, keep)

    def merged(piece: Piece) -> Tensor:
        vectors, positions = piece.vectors, partial(tensor.positions, piece)
        votes = [trimmed(vector, of, positions) for vector, (of,) in zip(vectors, limits, strict=True)]
        if len(votes) == 1:  # its own mean
            return landed(piece, vectors, scaled(votes[0], weight))
        ballot = Ballot.empty(votes[0])
        for vote in votes:
            ballot.cast_(vote)
        return landed(piece, vectors, scaled(ballot.mean(), weight))

    return merged
