"""Task arithmetic: add the task vectors of tuned models to their base."""

from collections.abc import Callable

import torch
from torch import Tensor

from lmmcl.merge.pieces import Piece, Pieces, landed


def task_arithmetic(tensor: Pieces, weight: float) -> Callable[[Piece], Tensor]:
    """θ_base + λ Σ τ, τ = θ_tuned − θ_base.

    Ilharco et al., 2022, arXiv 2212.04089, section 2.

    Args:
        tensor: with any number of tuned models.
        weight: λ; 1 with one tuned model is that model, 0 the base.
    """

    def merged(piece: Piece) -> Tensor:
        return landed(piece, piece.vectors, scaled(total(piece.vectors), weight))

    return merged


def total(vectors: list[Tensor]) -> Tensor:
    """Their sum, in the order given."""
    return vectors[0] if len(vectors) == 1 else torch.stack(vectors).sum(0)


def scaled(change: Tensor, weight: float) -> Tensor:
    """λ times a change, which stays as it is where λ is 1."""
    return change if weight == 1.0 else weight * change
