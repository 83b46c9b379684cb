"""Optimizer groups and learning-rate schedules of one task."""

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import Parameter
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

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


def scheduled(optimizer: Optimizer, schedule: str, warmup_ratio: float, total: int) -> OptimizerLRScheduler:
    """An optimizer and its schedule over ``total`` steps, as Lightning takes them."""
    factor = SCHEDULES[schedule](round(warmup_ratio * total), total)
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step", "name": "lr"},
    }


def clip_by_norm(parameters: Iterable[Parameter], most: float | None) -> Tensor:
    """Scales all gradients together so that their norm is ``most``, where it is above that; collective on shards.

    Args:
        parameters: what trains; those without a gradient do not count.
        most: None or 0 leaves the gradients as they are.

    Returns:
        The norm before, a scalar that is the same on every process.
    """
    reached = [parameter for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in reached if p.grad is not None])
    norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
    if most:
        torch.nn.utils.clip_grads_with_norm_(reached, most, norm)
    return norm
