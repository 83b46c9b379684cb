"""Learning without Forgetting: distil the model of the previous stage on the present task's answers."""

from collections.abc import Sequence

from lightning.pytorch import Trainer
from torch import Tensor
from typing_extensions import override

from lmmcl.data.batch import Batch
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.losses import distillation
from lmmcl.mitigation import ANCHOR, Copy, Mitigation
from lmmcl.model import ContinualLMM
from lmmcl.token_outputs import TokenOutputs


class LwF(Mitigation):
    """Adds λ τ² KL(teacher ‖ student) at the answer tokens.

    Li and Hoiem, 2016, arXiv 1606.09282; a baseline of arXiv 2510.08564. The teacher is the model after the
    previous stage, the base model at the first. It shares the frozen tensors with
    the student: what it costs in memory is one copy of the tensors that train, and in time one forward without a
    gradient.

    Args:
        weight: λ, from 0; 0 is plain fine-tuning, bit for bit.
        temperature: τ, above 0.
        name: of the logged term.
    """

    def __init__(self, weight: float = 1.0, temperature: float = 2.0, name: str | None = None) -> None:
        super().__init__(name)
        if weight < 0:
            raise UserError(f"trainer.callbacks: LwF.weight must be at least 0, got {weight}.")
        if not temperature > 0:
            raise UserError(f"trainer.callbacks: LwF.temperature must be above 0, got {temperature}.")
        self.weight = weight
        self.temperature = temperature
        self._teacher: TokenOutputs | None = None

    @override
    def copies(self) -> Sequence[Copy]:
        return [ANCHOR] if self.weight else []

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        self.tensors = dict(module.anchor()) if self.weight else {}

    @override
    def before_forward(self, module: ContinualLMM, batch: Batch) -> None:
        self._teacher = module.token_outputs(batch, weights=self.tensors) if self.weight else None

    @override
    def token_loss(self, module: ContinualLMM, batch: Batch, outputs: TokenOutputs) -> Tensor | None:
        if self._teacher is None:
            return None

        def divergence(student: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
            return distillation(student, teacher, self.temperature)

        return self.weight * outputs.map(divergence, self._teacher)
