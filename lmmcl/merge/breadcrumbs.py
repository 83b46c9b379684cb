"""Model Breadcrumbs: leave out the largest and the smallest values of every task vector."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from lmmcl.merge.pieces import Piece, Pieces, landed
from lmmcl.merge.task_arithmetic import total
from lmmcl.merge.ties import most


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
        (most(tensor, 1.0 - smallest, which), most(tensor, largest, which)) for which in range(tensor.models)
    ]

    def merged(piece: Piece) -> Tensor:
        vectors, positions = piece.vectors(), partial(tensor.positions, piece)
        kept = []
        for vector, (above, beyond) in zip(vectors, limits, strict=True):
            between = above.holds(vector, positions) & ~beyond.holds(vector, positions)
            kept.append(torch.where(between, vector, 0.0))
        return landed(piece, vectors, weight * total(kept))

    return merged
