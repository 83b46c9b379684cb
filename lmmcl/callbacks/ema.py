"""EMA: the model of a stage is the moving average of the weights along its training."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from typing_extensions import override

from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.mitigation import Copy, Mitigation
from lmmcl.model import ContinualLMM
from lmmcl.weights import copy_, mix_, snapshot


class EMA(Mitigation):
    """θ̄ ← (1 − a) θ̄ + a θ after every optimizer step; at the end of a task θ̄ becomes the model.

    Polyak and Juditsky, 1992, with the exponential weights of Tarvainen and Valpola, 2017, arXiv 1703.01780, section
    2. θ̄ starts at the weights before the task, and training is not touched by it. What is measured, written and
    carried into the next task is θ̄, so that a stage's scores are those of its weights; the weights it was averaged
    from get a row of the matrix, too. List it before what merges at the end of a task (WiSEFT), which then merges θ̄;
    after it, θ̄ would replace the merge, which is refused. It costs one copy of what trains.

    Args:
        rate: a in [0, 1]: how much of the present weights enters the average at every step; 1 is plain fine-tuning,
            bit for bit, 0 leaves the previous weights, byte for byte. The average reaches back about 1/a steps: a
            task of fewer than that stays near the weights it started from.
        measure_before: also measure the weights that were averaged.
        name: of its rows and state.

    Raises:
        UserError: the rate is out of its range.
    """

    def __init__(self, rate: float = 0.01, measure_before: bool = True, name: str | None = None) -> None:
        super().__init__(name)
        if not 0 <= rate <= 1:
            raise UserError(f"trainer.callbacks: EMA.rate must lie in [0, 1], got {rate}.")
        self.rate = rate
        self.measure_before = measure_before

    @override
    def copies(self) -> Sequence[Copy]:
        return [Copy("task")] if self.rate < 1 else []

    @override
    def moves_weights(self) -> bool:
        return self.rate < 1

    @override
    def conflict(self, other: Mitigation) -> str | None:
        if isinstance(other, EMA) and self.moves_weights() and other.moves_weights():
            return "at the end of a task each puts its own average in the place of the weights; keep one of them."
        return None

    @override
    def must_precede(self, other: Mitigation) -> str | None:
        if not (self.moves_weights() and other.moves_weights()):
            return None
        return (
            "at the end of a task its average replaces the weights, and nothing would be left of what "
            f"{other.name} made of them."
        )

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        self.tensors = snapshot(module.trained_parameters()) if self.rate < 1 else {}

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, ContinualLMM)
        if self.rate < 1 and pl_module.sequence.is_new_step(trainer):
            mix_(self.tensors, pl_module.trained_parameters(), self.rate)

    @override
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if self.rate == 1:
            return
        if self.measure_before:
            module.sequence.measure(trainer, module, f"before {self.name}")
        copy_(module.parameters_by_name(list(self.tensors)), self.tensors)
        self.tensors = {}
