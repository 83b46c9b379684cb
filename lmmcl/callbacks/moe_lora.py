"""MoELoRA: low-rank experts on the recipe's linears, and a router at each that weighs them for every token."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from typing_extensions import override

from lmmcl.adapters.lora_experts import LowRankExperts
from lmmcl.callbacks.lora import refusal
from lmmcl.data.task import Task
from lmmcl.mitigation import Mitigation
from lmmcl.model import ContinualLMM


class MoELoRA(Mitigation):
    """W x + (α/r) Σ_e softmax(R x)_e B_e A_e x: experts and routers are what trains; the recipe says on which linears.

    Luo et al., 2024, arXiv 2402.12851, in the form of CoIN's baseline, Chen et al., 2024, arXiv 2403.08350, and its
    code: every adapted linear has its own router R (experts, in), which weighs all of its experts (no top-k, no loss
    that balances or contrasts them), and the experts share the rank, r/E each, so that they have as many parameters as
    LoRA of rank r. There is one set of experts for the whole sequence; each task trains on where the one before it
    ended. R and A begin as LoRA's A does (at the width of a 7 B model A is as wide as the N(0, 0.01) of CoIN's code)
    and B as 0, so that new experts change nothing. Biases stay frozen. One expert is LoRA that goes on, exactly.

    No plain weights can do what a router does: a stage holds experts and routers, `lmmcl validate` reads it with
    MoELoRA in its config, and `lmmcl export` refuses it.

    Args:
        rank: r of all experts together, a multiple of their number.
        experts: E, from 1.
        alpha: α, above 0.
        dropout: of the experts' input, one draw for all experts, in [0, 1).
        name: of its state.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(
        self,
        rank: int = 128,
        experts: int = 8,
        alpha: float = 256.0,
        dropout: float = 0.05,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self._adapters = LowRankExperts(type(self).__name__, rank, experts, alpha, dropout)
        self.rank, self.experts, self.alpha, self.dropout = rank, experts, alpha, dropout

    @override
    def conflict(self, other: Mitigation) -> str | None:
        return refusal(self, other)

    @override
    def adapt(self, module: ContinualLMM, model: nn.Module) -> None:
        self._adapters.adapt(module, model)

    @override
    def trains(self, module: ContinualLMM, task: Task, trained: Mapping[str, str]) -> Mapping[str, str]:
        return self._adapters.trains(module, task, trained)

    @override
    def arrange(self, module: ContinualLMM, stage: int, ended: bool) -> None:
        present = None if ended or not stage else module.data.tasks[stage - 1]
        self._adapters.drop(module, present)

    @override
    def not_plain(self) -> str | None:
        return (
            "MoELoRA's routers weigh its experts anew for every token; measure it with MoELoRA in the config."
        )
