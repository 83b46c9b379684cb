"""Task arithmetic along a sequence: after every task, add a share of its task vector to where it began."""

from collections.abc import Sequence

from lightning.pytorch import Trainer
from typing_extensions import override

from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.mitigation import ANCHOR, Copy, Mitigation
from lmmcl.model import ContinualLMM
from lmmcl.weights import mix_


class TaskArithmetic(Mitigation):
    """θ ← θ_0 + λ Σ τ_i after task k, with τ_i = what task i changed, over the trained tensors, summed in fp32.

    Ilharco et al., 2022, arXiv 2212.04089, add the vectors of tasks that all began at the base. Along a sequence this
    is a reading (the axes are those of Dziadzio et al., 2024, arXiv 2412.06712): τ_i is taken from where task i began,
    so that no learning is counted twice, and the next task starts from the merge. The sum then telescopes to θ_start +
    λ τ_k, which is WiSE-FT with α = 1 − λ. Both the weights before and after the merge get a row of the matrix.

    Args:
        weight: λ, from 0; 1 is plain fine-tuning, bit for bit, 0 leaves the base weights, byte for byte; above 1 it
            extrapolates.
        measure_before: also measure the weights before the merge.
        name: of its rows and state.

    Raises:
        UserError: the weight is below 0.
    """

    def __init__(self, weight: float = 0.5, measure_before: bool = True, name: str | None = None) -> None:
        super().__init__(name)
        if not weight >= 0:
            raise UserError(f"trainer.callbacks: TaskArithmetic.weight must be at least 0, got {weight}.")
        self.weight = weight
        self.measure_before = measure_before

    @override
    def copies(self) -> Sequence[Copy]:
        return [ANCHOR] if self.moves_weights() else []

    @override
    def moves_weights(self) -> bool:
        return self.weight != 1

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        self.tensors = dict(module.anchor()) if self.moves_weights() else {}

    @override
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if self.measure_before and self.moves_weights():
            module.sequence.measure(trainer, module, f"before {self.name}")
        mix_(module.parameters_by_name(list(self.tensors)), self.tensors, 1.0 - self.weight)
