"""Optimizer groups and learning-rate schedules of one task."""

import math
from collections.abc import Callable, Mapping

import torch
from torch.nn import Parameter
from torch.optim import AdamW

from lmmcl.errors import UserError

Schedule = Callable[[int], float]


def cosine(warmup: int, total: int) -> Schedule:
    """Linear warm-up, then half a cosine to 0: the factor of the learning rate at optimizer step 0, 1, ...

    Args:
        warmup: steps of warm-up; the first step already has a rate above 0.
        total: steps of the task.
    """

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))

    return factor


def constant(warmup: int, total: int) -> Schedule:
    """Linear warm-up, then constant."""
    return lambda step: min(1.0, (step + 1) / (warmup + 1))


SCHEDULES: Mapping[str, Callable[[int, int], Schedule]] = {"cosine": cosine, "constant": constant}


def adamw(
    parameters: Mapping[str, Parameter],
    rates: Mapping[str, float],
    weight_decay: float,
    betas: tuple[float, float],
) -> AdamW:
    """AdamW with one group per learning rate and decay; vectors (norms, biases) are never decayed.

    Args:
        parameters: what trains, by name.
        rates: peak learning rate of each, by name.
        weight_decay: decoupled decay of matrices.
        betas: Adam's decay rates.
    """
    groups: dict[tuple[float, float], list[Parameter]] = {}
    for name, parameter in parameters.items():
        decay = weight_decay if parameter.dim() >= 2 else 0.0
        groups.setdefault((rates[name], decay), []).append(parameter)
    if not groups:
        raise UserError("model.recipe: nothing trains.")
    # Fused kernels on a GPU; elsewhere torch chooses.
    fused = True if all(p.is_cuda for p in parameters.values()) else None
    return torch.optim.AdamW(
        [{"params": members, "lr": lr, "weight_decay": decay} for (lr, decay), members in groups.items()],
        betas=betas,
        fused=fused,
    )
