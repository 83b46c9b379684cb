"""Sequential fine-tuning with averaging: merge with the previous weights while a task is still being trained."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from typing_extensions import override

from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.mitigation import ANCHOR, Copy, Mitigation
from lmmcl.model import ContinualLMM
from lmmcl.weights import mix_


class SFA(Mitigation):
    """θ ← β θ_previous + (1 − β) θ every p T of a task's T steps and after its last, over the trained tensors.

    Kleiman et al., 2025, arXiv 2501.05559. Training goes on from each merge, with the optimizer's state as it is;
    θ_previous are the weights before the task. p = 1 is WiSE-FT. Sums are in fp32. It costs one copy of what trains,
    shared with LwF and WiSE-FT.

    Args:
        beta: β in [0, 1]: the share of the previous weights; 0 is plain fine-tuning, bit for bit, 1 leaves the
            previous weights, byte for byte.
        p: share of a task's steps between two merges, in (0, 1], rounded to whole steps, at least one.
        name: of its state.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(self, beta: float = 0.5, p: float = 0.25, name: str | None = None) -> None:
        super().__init__(name)
        if not 0 <= beta <= 1:
            raise UserError(f"trainer.callbacks: SFA.beta must lie in [0, 1], got {beta}.")
        if not 0 < p <= 1:
            raise UserError(f"trainer.callbacks: SFA.p must lie in (0, 1], got {p}.")
        self.beta = beta
        self.p = p

    @override
    def copies(self) -> Sequence[Copy]:
        return [ANCHOR] if self.beta else []

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        self.tensors = dict(module.anchor()) if self.beta else {}

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, ContinualLMM)
        if not self.beta or not pl_module.sequence.is_new_step(trainer):
            return
        step, total = pl_module.sequence.position.step + 1, pl_module.steps_in_task
        if step % max(1, round(self.p * total)) == 0 or step == total:
            mix_(pl_module.trained_parameters(), self.tensors, self.beta)
