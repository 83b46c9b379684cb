"""Model Tailor: keep few values of a linear layer's change, and let them make up for the others."""

from __future__ import annotations

import torch
from torch import Tensor

from lmmcl.merge.threshold import kth_largest, share_of

_BATCH = 1 << 22
"""Values of the systems that are solved at once."""


def damped(moments: Tensor, damping: float) -> Tensor:
    """The Hessian of a linear layer's squared error, Σ x xᵀ over its inputs x, scaled to a mean diagonal of 1, damped.

    Args:
        moments: Σ x xᵀ, (inputs, inputs), fp32.
        damping: what is added to the diagonal, above 0.
    """
    eye = torch.eye(len(moments), device=moments.device)
    scale = moments.diagonal().mean()
    return moments / scale + damping * eye if scale > 0 else eye


def importance(change: Tensor, hessian: Tensor | None) -> Tensor:
    """Salience |Δ| and sensitivity |Δ| / √[H⁻¹]_jj, what leaving a value out costs at best, as their geometric mean.

    Args:
        change: Δ, (outputs, inputs), or of any shape without a Hessian.
        hessian: (inputs, inputs); None: the salience alone.

    Returns:
        Of the shape of the change.
    """
    if hessian is None:
        return change.abs()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    return change.abs() * inverse.diagonal().pow(-0.25)


def kept_values(scores: Tensor, keep: float, numel: int, shared: bool) -> Tensor:
    """Which values of a tensor are among its most important; collective where processes share it.

    Args:
        scores: of this process's part.
        keep: share of all values, in [0, 1].
        numel: of the whole tensor.
        shared: whether other processes hold other parts.

    Returns:
        bool, of the shape of the scores.
    """
    count = share_of(keep, numel)
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    return scores >= kth_largest(lambda: [scores.flatten()] if scores.numel() else [], count, shared)


def compensated(change: Tensor, kept: Tensor, hessian: Tensor) -> Tensor:
    """The change on the kept values alone whose outputs are nearest to those of the whole change.

    Each row minimises (δ − Δ) H (δ − Δ)ᵀ over the δ that are 0 where nothing is kept: δ_K = (Δ H)_K H_KK⁻¹, the joint
    solution of which Optimal Brain Surgeon's H⁻¹_{:,m} Δ_m / [H⁻¹]_mm, one left-out value after the other, is the
    elimination.

    Args:
        change: Δ, (outputs, inputs), fp32.
        kept: bool, (outputs, inputs).
        hessian: H, (inputs, inputs), positive definite.

    Returns:
        δ, (outputs, inputs).
    """
    result, pull = torch.zeros_like(change), change @ hessian
    counts = kept.sum(1)
    most = int(counts.max()) if len(counts) else 0
    if most == 0:
        return result
    step = max(1, _BATCH // most**2)
    for rows in range(0, len(change), step):
        mask, target = kept[rows : rows + step], pull[rows : rows + step]
        width = max(1, int(counts[rows : rows + step].max()))
        places = torch.argsort(mask.int(), dim=1, descending=True, stable=True)[:, :width]  # (rows, width)
        real = mask.gather(1, places)
        system = hessian[places[:, :, None], places[:, None, :]]  # (rows, width, width)
        # A row that keeps fewer is filled up with unknowns that stand alone.
        both = real[:, :, None] & real[:, None, :]
        system = torch.where(both, system, torch.eye(width, device=system.device))
        right = torch.where(real, target.gather(1, places), 0.0)
        solved = torch.cholesky_solve(right[:, :, None], torch.linalg.cholesky(system))[:, :, 0]
        result[rows : rows + step].scatter_(1, places, torch.where(real, solved, 0.0))
    return result
