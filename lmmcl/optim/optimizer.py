"""Optimizer groups and learning-rate schedules of one task."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import Parameter
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lmmcl.errors import UserError
from lmmcl.optim.counter_noise import key_of
from lmmcl.optim.lean_adamw import LeanAdamW, Moments
from lmmcl.optim.trained_bytes import rounding_of
from lmmcl.weights import holds_first, local, whole

Schedule = Callable[[int], float]

_MOMENTS: Mapping[str, Moments] = {"adamw": "fp32", "adamw_8bit": "8bit", "adamw_offload": "offloaded"}
"""How ``model.optimizer`` holds the moments."""


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
    groups = _groups(parameters, rates, weight_decay)
    # One pass over memory, where torch has a kernel for it: its loop on a CPU takes many times as long.
    fused = True if all(p.is_cuda or _on_cpu(p) for p in parameters.values()) else None
    return torch.optim.AdamW(groups, betas=betas, fused=fused)


def optimizer_of(
    settings: Mapping[str, Any], parameters: Mapping[str, Parameter], rates: Mapping[str, float], task: str
) -> Optimizer:
    """The optimizer of a task: torch's own, or one that takes less memory.

    Args:
        settings: the arguments of `lmmcl.model.ContinualLMM`.
        parameters: what trains, by name.
        rates: peak learning rate of each, by name.
        task: its name, of which the random bits of a rounding follow, with the seed.
    """
    decay, betas, kind = settings["weight_decay"], tuple(settings["betas"]), settings["optimizer"]
    rounding = rounding_of(settings)
    if kind == "adamw" and rounding is None:
        return adamw(parameters, rates, decay, betas)
    return LeanAdamW(
        _groups(parameters, rates, decay),
        {parameter: name for name, parameter in parameters.items()},
        betas,
        moments=_MOMENTS[kind],
        rounding=rounding,
        seed=key_of(settings["seed"], task),
    )


def _groups(
    parameters: Mapping[str, Parameter], rates: Mapping[str, float], weight_decay: float
) -> list[dict[str, Any]]:
    """One group per learning rate, decay and mesh of shards."""
    groups: dict[tuple[float, float, object], list[Parameter]] = {}
    for name, parameter in parameters.items():
        decay = weight_decay if parameter.dim() >= 2 else 0.0
        groups.setdefault((rates[name], decay, _mesh_of(parameter)), []).append(parameter)
    if not groups:
        raise UserError("model.recipe: nothing trains.")
    return [
        {"params": members, "lr": lr, "weight_decay": decay} for (lr, decay, _), members in groups.items()
    ]


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
    by_mesh = _reached_by_mesh(parameters)
    norms = [_norm([p.grad for p in members if p.grad is not None]) for members in by_mesh]
    norm = norms[0] if len(norms) == 1 else torch.nn.utils.get_total_norm(norms)
    if most:
        for members in by_mesh:
            torch.nn.utils.clip_grads_with_norm_(members, most, norm)
    return norm


def clip_by_value(parameters: Iterable[Parameter], most: float) -> None:
    """Brings every value of the gradients into [−most, most]."""
    for members in _reached_by_mesh(parameters):
        torch.nn.utils.clip_grad_value_(members, most)


def _reached_by_mesh(parameters: Iterable[Parameter]) -> list[list[Parameter]]:
    """Those with a gradient, by the mesh of their shards."""
    by_mesh: dict[object, list[Parameter]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            by_mesh.setdefault(_mesh_of(parameter), []).append(parameter)
    return list(by_mesh.values())


def _norm(gradients: list[Tensor]) -> Tensor:
    """The norm of gradients on one mesh, the same on every process."""
    first = gradients[0]
    if not isinstance(first, DTensor) or first.device_mesh.ndim == 1:
        return whole(torch.nn.utils.get_total_norm(gradients))
    # Torch would sum it over one dimension of the mesh after the other, and warn of each.
    mine = torch.nn.utils.get_total_norm([local(gradient) for gradient in gradients if holds_first(gradient)])
    square = mine.to(first.device).square()
    dist.all_reduce(square)
    return square.sqrt()


def _mesh_of(tensor: Tensor) -> object:
    """What the tensors of one fused or grouped operation share: torch refuses shards of two meshes in one."""
    return tensor.device_mesh if isinstance(tensor, DTensor) else None


def _on_cpu(parameter: Parameter) -> bool:
    return parameter.device.type == "cpu" and not isinstance(parameter, DTensor)
