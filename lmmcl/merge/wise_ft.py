"""WiSE-FT between two folders: interpolate base and tuned weights."""

from collections.abc import Callable

from torch import Tensor

from lmmcl.merge.pieces import Piece, Pieces


def wise_ft(tensor: Pieces, alpha: float) -> Callable[[Piece], Tensor]:
    """α θ_base + (1 − α) θ_tuned; 0 and 1 give either side byte for byte.

    Wortsman et al., 2021, arXiv 2109.01903.

    Args:
        tensor: with one tuned model.
        alpha: the base's share.
    """

    def merged(piece: Piece) -> Tensor:
        (tuned,) = piece.tuned
        if alpha in (0.0, 1.0):
            return piece.base if alpha else tuned
        base, other = piece.in_fp32
        return (base * alpha).add_(other * (1.0 - alpha)).to(tuned.dtype)

    return merged
