"""LoRA: train low-rank adapters in the place of the recipe's linears; merge them after every task, or keep them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from typing_extensions import override

from lmmcl.adapters.fold import Fold
from lmmcl.adapters.low_rank import LowRankAdapters, key_of
from lmmcl.callbacks.sfa import SFA
from lmmcl.data.row import Row
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.mitigation import Copy, Mitigation
from lmmcl.model import ContinualLMM
from lmmcl.weights import snapshot, whole, write_whole_

_PROBED = 8
"""Samples on which the logits before and after a merge are compared."""
_TOKENS = 64
"""Of their answers."""


class LoRA(Mitigation):
    """W x + (α/r) B A x: a pair of small matrices a task is what trains; the recipe says on which linears.

    Hu et al., 2021, arXiv 2106.09685; a baseline of arXiv 2510.08564 with its rank 256, α 32 and dropout 0.05, at a
    learning rate of 5e-5 (``model.lr``) on the recipe ``mlp``. Every task begins with fresh adapters on the linears of
    its recipe; biases stay frozen. A stage holds the A and B of all tasks so far and nothing else; `lmmcl export` and
    whoever reads a stage as plain weights get W_0 + Σ_i (α/r) B_i A_i, rounded once. ``merge`` writes the same into the
    model after every task, always from W_0, so that roundings do not add up, and costs one more copy of the adapted
    linears in the checkpoint's dtype (nothing on disk); ``keep`` leaves the adapters of past tasks frozen in the
    forward, which then takes longer with every task. Both are one function, up to rounding.

    Args:
        rank: r, from 1.
        alpha: α, above 0.
        dropout: of the input of the adapter that trains, in [0, 1).
        at_end: ``merge`` or ``keep``.
        name: of its state.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(
        self,
        rank: int = 256,
        alpha: float = 32.0,
        dropout: float = 0.05,
        at_end: Literal["merge", "keep"] = "merge",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if at_end not in ("merge", "keep"):
            raise UserError(f"trainer.callbacks: LoRA.at_end must be merge or keep, got {at_end!r}.")
        self._adapters = LowRankAdapters(type(self).__name__, rank, alpha, dropout)
        self.rank, self.alpha, self.dropout, self.at_end = rank, alpha, dropout, at_end
        self._merged: set[str] = set()
        self._rows: Sequence[Row] = ()
        self._before: Tensor | None = None

    @override
    def copies(self) -> Sequence[Copy]:
        return [Copy(self._adapters.base_bytes(), in_stage=True)] if self.at_end == "merge" else []

    @override
    def writes_frozen(self) -> str | None:
        return (
            "at_end: merge writes into frozen weights. Use LoRA.at_end: keep, which an export adds to the checkpoint's "
            "own weights, or leave frozen_bits out."
            if self.at_end == "merge"
            else None
        )

    @override
    def conflict(self, other: Mitigation) -> str | None:
        return refusal(self, other)

    @override
    def adapt(self, module: ContinualLMM, model: nn.Module) -> None:
        self._merged = set()
        self._adapters.adapt(module, model)

    @override
    def trains(self, module: ContinualLMM, task: Task, trained: Mapping[str, str]) -> Mapping[str, str]:
        return self._adapters.trains(module, task, trained)

    @override
    def folds(self, module: ContinualLMM, task: Task) -> Sequence[Fold]:
        return self._adapters.folds(module, task)

    @override
    def arrange(self, module: ContinualLMM, stage: int, ended: bool) -> None:
        tasks = [key_of(module, task) for task in module.data.tasks[:stage]]
        if self.at_end == "keep":
            self._adapters.activate(tasks, None if ended or not tasks else tasks[-1])
            return
        done, present = (tasks, []) if ended else (tasks[:-1], tasks[-1:])
        self._adapters.activate(present, present[0] if present else None)
        if self._merged != set(done):
            self._merge(module, done)

    @override
    def select(
        self, trainer: Trainer, module: ContinualLMM, task: Task, rows: Sequence[Row]
    ) -> Sequence[Row]:
        self._rows = rows[:_PROBED]
        return rows

    @override
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if self.at_end == "merge" and self._rounds(module):
            self._before = self._logits(module)

    def _merge(self, module: ContinualLMM, done: Sequence[str]) -> None:
        """Writes W_0 + Σ s B A of the tasks that are done, and says what rounding made of it."""
        lost = change = torch.zeros((), dtype=torch.float64, device=module.device)
        parameters = module.parameters_by_name(list(self._adapters.layers))
        for name, weight in parameters.items():
            if not self._adapters.keys(name) & (set(done) - self._merged):
                continue
            base = whole(self.tensors.setdefault(f"base/{name}", snapshot({name: weight})[name]))
            merged = self._adapters.merged(name, base, done)
            write_whole_(weight, merged)
            lost = lost + (merged.to(weight.dtype).float() - merged).double().square().sum()
            change = change + (merged - base.float()).double().square().sum()
        self._merged = set(done)
        if self._before is None:
            return
        moved = (self._logits(module) - self._before).abs().flatten()
        self._before = None
        module.sequence.report_notice(
            f"{self.name}: merged; rounding took {100 * float((lost / change).sqrt()):.2g} % of the change so far (by "
            f"norm) and moved logits by {float(moved.mean()):.2g} in the mean, {float(moved.max()):.2g} at most"
            if len(moved)
            else f"{self.name}: merged"
        )

    def _rounds(self, module: ContinualLMM) -> bool:
        """Whether the adapted weights are held in less than fp32."""
        parameters = module.parameters_by_name(list(self._adapters.layers))
        return any(parameter.dtype != torch.float32 for parameter in parameters.values())

    def _logits(self, module: ContinualLMM) -> Tensor:
        """Logits (tokens, vocabulary) at the first answer tokens of a few samples."""
        batch = module.data.collator.train(self._rows).to(module.device)
        with module.inference():
            return module.logits(module.token_outputs(batch).hidden[:_TOKENS]).float()


def refusal(mine: Mitigation, other: Mitigation) -> str | None:
    """Why adapters cannot stand beside another mitigation."""
    if type(other).adapt is not Mitigation.adapt:
        return "both change the structure of the model; keep one of them."
    if other.moves_weights() or (isinstance(other, SFA) and other.beta > 0):
        return (
            f"{other.name} mixes every tensor with its former value, and a mix of A and a mix of B do not make a mix "
            f"of B A; leave {mine.name} out, or {other.name}."
        )
    return None
