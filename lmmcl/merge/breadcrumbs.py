"""Model Breadcrumbs: leave out the largest and the smallest values of every task vector."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from lmmcl.merge.lanes import kept
from lmmcl.merge.pieces import Piece, Pieces, landed
from lmmcl.merge.task_arithmetic import scaled, total
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
    limits = most(tensor, 1.0 - smallest, largest)

    def merged(piece: Piece) -> Tensor:
        vectors, positions = piece.vectors, partial(tensor.positions, piece)
        left = []
        for vector, (low, high) in zip(vectors, limits, strict=True):
            between = low.holds(vector, positions) & ~high.holds(vector, positions)
            left.append(kept(between, vector))
        return landed(piece, vectors, scaled(total(left), weight))

    return merged
