"""DARE: drop values of a task vector at random and rescale the others."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from lmmcl.merge.counter import happens
from lmmcl.merge.lanes import kept
from lmmcl.merge.pieces import Piece, Pieces, landed
from lmmcl.merge.task_arithmetic import scaled, total


def dropped(vector: Tensor, positions: Tensor, drop: float, *key: int | str) -> Tensor:
    """A task vector without the values that are dropped, the others times 1 / (1 − p), so that its mean stays.

    Args:
        vector: τ, (values,).
        positions: of its values in the whole tensor, (values,).
        drop: p in [0, 1).
        key: of the draw: the same key drops the same positions.
    """
    return kept(~happens(positions, drop, *key), vector / (1.0 - drop)) if drop else vector


def dare(tensor: Pieces, drop: float, weight: float, *key: int | str) -> Callable[[Piece], Tensor]:
    """θ_base + λ Σ DARE(τ).

    Yu et al., 2023, arXiv 2311.03099, section 3. What is dropped depends on the key, the tensor's name, the model's
    place in the list and the position of a value, and on nothing else.

    Args:
        tensor: with any number of tuned models.
        drop: p in [0, 1); 0 is task arithmetic.
        weight: λ.
        key: of the draw, such as a seed.
    """

    def merged(piece: Piece) -> Tensor:
        vectors, positions = piece.vectors, tensor.positions(piece)
        left = [dropped(v, positions, drop, *key, tensor.name, which) for which, v in enumerate(vectors)]
        return landed(piece, vectors, scaled(total(left), weight))

    return merged
