"""Model Breadcrumbs: leave out the largest and the smallest values of every task vector."""

from collections.abc import Callable

import torch
from torch import Tensor

from lmmcl.merge.pieces import Piece, Pieces, landed
from lmmcl.merge.task_arithmetic import total
from lmmcl.merge.ties import least_kept


def between(vector: Tensor, least: float, beyond: float) -> Tensor:
    """A task vector with only the values whose magnitude is at least ``least`` and below ``beyond``."""
    size = vector.abs()
    return torch.where((size >= least) & (size < beyond), vector, 0.0)


def breadcrumbs(tensor: Pieces, smallest: float, largest: float, weight: float) -> Callable[[Piece], Tensor]:
    """θ_base + λ Σ of the masked task vectors.

    Davari and Belilovsky, 2023, arXiv 2312.06795, section 3: the mask is made for each tensor alone.

    Args:
        tensor: with any number of tuned models.
        smallest: share of the values to leave out at the lower end, in [0, 1].
        largest: share to leave out at the upper end, in [0, 1 − smallest].
        weight: λ.
    """
    limits = [
        (least_kept(tensor, 1.0 - smallest, which), least_kept(tensor, largest, which))
        for which in range(tensor.models)
    ]

    def merged(piece: Piece) -> Tensor:
        vectors = piece.vectors()
        kept = [between(vector, *limit) for vector, limit in zip(vectors, limits, strict=True)]
        return landed(piece, vectors, weight * total(kept))

    return merged
