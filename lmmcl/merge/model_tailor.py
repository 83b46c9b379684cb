"""Model Tailor: keep few values of a linear layer's change, and let them make up for the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from lmmcl.merge.pieces import Piece, landed
from lmmcl.merge.threshold import kept_values
from lmmcl.parallel.tensor_group import with_whole_rows
from lmmcl.structure.anatomy import Anatomy
from lmmcl.weights import local

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


def tailored(base: Tensor, tuned: Tensor, hessian: Tensor | None, keep: float) -> Tensor:
    """The base with the patch of one tensor; collective where it is sharded, by rows.

    Args:
        base: the tensor before the tuning.
        tuned: the same after it, sharded alike.
        hessian: of the linear layer whose matrix it is; None: the most salient values are kept as they are.
        keep: share of the tensor's values that may differ from the base, in [0, 1].

    Returns:
        This process's rows, in the base's dtype.
    """
    base, tuned = with_whole_rows(base), with_whole_rows(tuned)
    before, after = local(base).detach(), local(tuned).detach()
    change = after.float() - before.float()
    kept = kept_values(importance(change, hessian), keep, base)
    patch = torch.where(kept, change, 0.0) if hessian is None else compensated(change, kept, hessian)
    return landed(Piece(0, before, [after]), [change], patch)


def blocks(
    model: nn.Module, anatomy: Anatomy, names: Sequence[str]
) -> Iterator[tuple[dict[str, str], list[str]]]:
    """Parameters block by block, in the order in which they are named.

    Args:
        model: that holds them.
        anatomy: of the model.
        names: of parameters.

    Yields:
        matrices of linear layers by the layer's path, and the block's other parameters.
    """
    units = [*anatomy.vision_blocks, *anatomy.decoder_layers]
    found: dict[str, tuple[dict[str, str], list[str]]] = {}
    for name in names:
        path, _, last = name.rpartition(".")
        unit = next((unit for unit in units if name.startswith(f"{unit}.")), path)
        linears, others = found.setdefault(unit, ({}, []))
        if last == "weight" and isinstance(model.get_submodule(path), nn.Linear):
            linears[path] = name
        else:
            others.append(name)
    yield from found.values()
