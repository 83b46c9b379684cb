"""Elastic weight consolidation, with a Fisher information per task (EWC) or a running one (online EWC)."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from typing_extensions import override

from lmmcl.data.row import Row
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.losses import consolidation, cross_entropy
from lmmcl.mitigation import Copy, Mitigation
from lmmcl.model import ContinualLMM
from lmmcl.probing.calibration import draw_rows, mean_over_samples
from lmmcl.weights import local, snapshot


class EWC(Mitigation):
    """Adds (λ/2) Σ F (θ − θ*)²: what mattered for a task stays near its value at that task's end.

    Kirkpatrick et al., 2017, arXiv 1612.00796, equation 3; online EWC is Schwarz et al., 2018, arXiv 1805.06370,
    section 3.2. F is the diagonal of the empirical Fisher information: the mean over samples of the square of each
    sample's own gradient of the log-likelihood of its whole answer. Squaring the gradient of a batch would
    underestimate it. It is measured at the end of a task, on a fixed draw of the rows as they came to this callback,
    in one backward pass a sample. While the first task is trained there is nothing to hold on to.

    Args:
        weight: λ, from 0; 0 is plain fine-tuning, bit for bit. 5000 is meant for adapters (LoRA).
        gamma: None keeps θ* and F of every task: two copies of what it trained, each. A γ in [0, 1] is online EWC,
            two copies in all: F ← γ F + F_task and θ* of the last task; 1 forgets nothing, 0 all but the last.
        batches: F is the mean over so many batches of ``data.batch_size`` samples, from 1.
        name: of the logged term and the state.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(
        self, weight: float = 5000.0, gamma: float | None = None, batches: int = 50, name: str | None = None
    ) -> None:
        super().__init__(name)
        if not weight >= 0:
            raise UserError(f"trainer.callbacks: EWC.weight must be at least 0, got {weight}.")
        if gamma is not None and not 0 <= gamma <= 1:
            raise UserError(f"trainer.callbacks: EWC.gamma must lie in [0, 1] or be null, got {gamma}.")
        if batches < 1:
            raise UserError(f"trainer.callbacks: EWC.batches must be at least 1, got {batches}.")
        self.weight = weight
        self.gamma = gamma
        self.batches = batches
        self._memories = 0
        self._rows: Sequence[Row] = ()

    @override
    def copies(self) -> Sequence[Copy]:
        of: Literal["so far", "each task"] = "each task" if self.gamma is None else "so far"
        return [Copy(of, in_stage=True), Copy(of)] if self.weight else []

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"memories": self._memories}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._memories = state_dict["memories"]

    @override
    def select(
        self, trainer: Trainer, module: ContinualLMM, task: Task, rows: Sequence[Row]
    ) -> Sequence[Row]:
        self._rows = rows
        return rows

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if self._memories and not any(self._of(name) for name in module.trained):
            module.sequence.report_notice(
                f"{self.name} does nothing in {task.name}: no task before it trained what it trains."
            )

    @override
    def weight_penalty(self, name: str, shard: Tensor) -> Tensor | None:
        terms = [consolidation(shard, local(anchor), local(fisher)) for anchor, fisher in self._of(name)]
        return self.weight / 2 * torch.stack(terms).sum() if terms else None

    @override
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if not self.weight:
            return
        rows = draw_rows(module, self._rows, self.batches * module.data.steps.of(task), "Fisher")
        module.sequence.report_notice(
            f"{self.name}: Fisher information of {task.name} on {len(rows)} samples"
        )
        found = mean_over_samples(module, rows, lambda o: o.map(cross_entropy).sum(), torch.square)
        if self.gamma is None:
            self._memories += 1
        else:
            self._memories = 1
            self._fade(self.gamma)
        for name, anchor in snapshot(module.trained_parameters()).items():
            fisher = f"{self._memories}/fisher/{name}"
            self.tensors[f"{self._memories}/anchor/{name}"] = anchor
            self.tensors[fisher] = (
                self.tensors[fisher] + found[name] if fisher in self.tensors else found[name]
            )

    def _of(self, name: str) -> list[tuple[Tensor, Tensor]]:
        """θ* and F of every task (online: of all together) that trained a parameter."""
        memories = [str(memory) for memory in range(1, self._memories + 1)]
        return [
            (self.tensors[f"{memory}/anchor/{name}"], self.tensors[f"{memory}/fisher/{name}"])
            for memory in memories
            if f"{memory}/fisher/{name}" in self.tensors
        ]

    def _fade(self, gamma: float) -> None:
        """F ← γ F; what is forgotten entirely takes no memory."""
        kept = self.tensors if gamma else {}
        self.tensors = {key: gamma * t if "/fisher/" in key else t for key, t in kept.items()}
