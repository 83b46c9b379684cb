"""O-LoRA: adapters of every task are kept, and each new one learns in directions orthogonal to those before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from lmmcl.adapters.fold import Fold
from lmmcl.adapters.low_rank import LowRankAdapters, key_of, names_of
from lmmcl.callbacks.lora import refusal
from lmmcl.data.task import Task
from lmmcl.data_parallel import tensor_group
from lmmcl.errors import UserError
from lmmcl.mitigation import Copy, Mitigation
from lmmcl.model import ContinualLMM
from lmmcl.weights import whole


def overlap(present: Tensor, past: Tensor) -> Tensor:
    """‖A_t A_pastᵀ‖₁, the sum of all absolute products of rows; 0 where the rows are orthogonal.

    Args:
        present: A_t, (rank, in), or some of its rows.
        past: A of all tasks before, one above the other, (ranks, in).
    """
    return (present @ past.T).abs().sum()


class OLoRA(Mitigation):
    """LoRA whose adapters are kept, with λ Σ_{i<t} ‖A_t A_iᵀ‖₁ added to the loss of task t.

    Wang et al., 2023, arXiv 2310.14152, section 3.2, with the λ of the authors' scripts; the paper writes the squares
    of the products, the authors' code sums their absolute values, as here. The penalty is over all adapted linears.
    λ 0 is ``LoRA`` with ``at_end: keep``, bit for bit. It costs the A of all past tasks, whole on every process.

    Args:
        weight: λ, from 0.
        rank: r, from 1.
        alpha: α, above 0.
        dropout: of the input of the adapter that trains, in [0, 1).
        name: of the logged term and the state.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(
        self,
        weight: float = 0.5,
        rank: int = 256,
        alpha: float = 32.0,
        dropout: float = 0.05,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if not weight >= 0:
            raise UserError(f"trainer.callbacks: OLoRA.weight must be at least 0, got {weight}.")
        self._adapters = LowRankAdapters(type(self).__name__, rank, alpha, dropout)
        self.weight, self.rank, self.alpha, self.dropout = weight, rank, alpha, dropout
        self._past: dict[str, Tensor] = {}

    @override
    def copies(self) -> Sequence[Copy]:
        return [Copy(self._adapters.down_bytes(), in_stage=True)] if self.weight else []

    @override
    def conflict(self, other: Mitigation) -> str | None:
        return refusal(self, other)

    @override
    def adapt(self, module: ContinualLMM, model: nn.Module) -> None:
        if self.weight and tensor_group() is not None:
            raise UserError(
                f"trainer.callbacks: {self.name} compares whole rows of its adapters, which the strategy's "
                "tensor_parallel cuts. Leave tensor_parallel out, or take LoRA with at_end: keep."
            )
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
        self._adapters.activate(tasks, None if ended or not tasks else tasks[-1])
        self._past = {}
        if not tasks or ended or not self.weight:
            return
        *earlier, present = tasks
        for name in self._adapters.layers:
            keys = self._adapters.keys(name)
            before = [whole(self._adapters.pair(name, key)[0]) for key in earlier if key in keys]
            if before and present in keys:
                self._past[names_of(name, present)[0]] = torch.cat(before)
        if earlier and not self._past:
            module.sequence.report_notice(
                f"{self.name} adds nothing in {module.data.tasks[stage - 1].name}: no task before it adapted what it "
                "adapts."
            )

    @override
    def weight_penalty(self, name: str, shard: Tensor) -> Tensor | None:
        past = self._past.get(name)
        # A few rows of A_t against all of the past ones: the sum over processes is the whole penalty.
        return None if past is None else self.weight * overlap(shard, past)
