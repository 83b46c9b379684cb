"""Synaptic intelligence: keep the weights whose way through training made the loss fall."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.losses import consolidation
from lmmcl.mitigation import ANCHOR, Copy, Mitigation
from lmmcl.model import ContinualLMM
from lmmcl.weights import local


def consolidated(importance: Tensor, path: Tensor, moved: Tensor, damping: float) -> Tensor:
    """Ω ← max(0, Ω + ω / (Δ² + ξ)), where a negative importance would push a weight away without bound.

    Args:
        importance: Ω of the tasks before.
        path: ω, the drop of the loss along the way of each weight, of the same shape.
        moved: Δ, how far each weight came in the task, of the same shape.
        damping: ξ, above 0.
    """
    return (importance + path / (moved.square() + damping)).clamp(min=0)


class SI(Mitigation):
    """Adds c Σ Ω (θ − θ*)²: what made the loss of past tasks fall stays near its value.

    Zenke et al., 2017, arXiv 1703.04200, equations 3 to 5. In every optimizer step each weight's part in the drop of
    the loss, minus gradient times step, is added to ω; at the end of a task Ω grows by ω / (Δ² + ξ), clamped at 0 as
    in the authors' code. The gradient is that of the loss and its terms per token, before clipping and without the
    penalties on weights. θ* are the weights the present task started from. It costs three copies of what trains, and
    two more between a backward pass and the end of its step.

    Args:
        weight: c, from 0; 0 is plain fine-tuning, bit for bit.
        damping: ξ, above 0, in squared units of a weight: it bounds Ω where a weight hardly moved.
        name: of the logged term and the state.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(self, weight: float = 0.1, damping: float = 1e-3, name: str | None = None) -> None:
        super().__init__(name)
        if not weight >= 0:
            raise UserError(f"trainer.callbacks: SI.weight must be at least 0, got {weight}.")
        if not damping > 0:
            raise UserError(f"trainer.callbacks: SI.damping must be above 0, got {damping}.")
        self.weight = weight
        self.damping = damping
        self._before: dict[str, tuple[Tensor, Tensor]] = {}

    @override
    def copies(self) -> Sequence[Copy]:
        return [ANCHOR, Copy("task"), Copy("so far")] if self.weight else []

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if not self.weight:
            return
        if self.tensors and not any(f"importance/{name}" in self.tensors for name in module.trained):
            module.sequence.report_notice(
                f"{self.name} does nothing in {task.name}: no task before it trained what it trains."
            )
        for name, anchor in module.anchor().items():
            self.tensors[f"anchor/{name}"] = anchor
            self.tensors[f"path/{name}"] = torch.zeros_like(anchor)

    @override
    def weight_penalty(self, name: str, shard: Tensor) -> Tensor | None:
        if f"importance/{name}" not in self.tensors:
            return None
        anchor, importance = self.tensors[f"anchor/{name}"], self.tensors[f"importance/{name}"]
        return self.weight * consolidation(shard, local(anchor), local(importance))

    @override
    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        assert isinstance(pl_module, ContinualLMM)
        if not self.weight:
            return
        for name, parameter in pl_module.trained_parameters().items():
            if parameter.grad is not None:
                gradient, value = local(parameter.grad), local(parameter).detach()
                self._before[name] = gradient.clone(), value.clone()

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, ContinualLMM)
        for name, parameter in pl_module.parameters_by_name(list(self._before)).items():
            gradient, value = self._before[name]
            local(self.tensors[f"path/{name}"]).sub_(gradient * (local(parameter).detach() - value))
        self._before = {}

    @override
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        kept = {key: tensor for key, tensor in self.tensors.items() if key.startswith("importance/")}
        if not self.weight:
            return
        for name, parameter in module.trained_parameters().items():
            path, moved = self.tensors[f"path/{name}"], parameter.detach() - self.tensors[f"anchor/{name}"]
            importance = self.tensors.get(f"importance/{name}", torch.zeros_like(path))
            kept[f"importance/{name}"] = consolidated(importance, path, moved, self.damping)
        self.tensors = kept
