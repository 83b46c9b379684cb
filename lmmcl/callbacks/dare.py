"""DARE along a sequence: after every task, drop values of its change at random and rescale the others."""

from collections.abc import Sequence

from lightning.pytorch import Trainer
from typing_extensions import override

from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.merge.dare import dare
from lmmcl.merge.tensor_pieces import merge_
from lmmcl.mitigation import ANCHOR, Copy, Mitigation
from lmmcl.model import ContinualLMM


class DARE(Mitigation):
    """θ ← θ_0 + λ Σ DARE(τ_i) after task k: a value of a task's change is dropped with p, or divided by 1 − p.

    Yu et al., 2023, arXiv 2311.03099, section 3. Along a sequence this is a reading: τ_i is taken from where task i
    began, and the next task starts from the merge (arXiv 2412.06712 compares such choices), so that the sum telescopes
    to θ_start + λ DARE(τ_k). What is dropped depends on the run's seed, the task, this callback's name, the tensor's
    name and the position of a value, not on processes or shards. Both the weights before and after it get a row of
    the matrix.

    Args:
        drop: p in [0, 1); 0 with λ 1 is plain fine-tuning, value for value.
        weight: λ, from 0; 0 leaves the base weights, byte for byte.
        measure_before: also measure the weights before the merge.
        name: of its rows and state.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(
        self, drop: float = 0.9, weight: float = 1.0, measure_before: bool = True, name: str | None = None
    ) -> None:
        super().__init__(name)
        if not 0 <= drop < 1:
            raise UserError(f"trainer.callbacks: DARE.drop must lie in [0, 1), got {drop}.")
        if not weight >= 0:
            raise UserError(f"trainer.callbacks: DARE.weight must be at least 0, got {weight}.")
        self.drop = drop
        self.weight = weight
        self.measure_before = measure_before

    @override
    def copies(self) -> Sequence[Copy]:
        return [ANCHOR] if self.moves_weights() else []

    @override
    def moves_weights(self) -> bool:
        return bool(self.drop) or self.weight != 1

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        self.tensors = dict(module.anchor()) if self.moves_weights() else {}

    @override
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if self.measure_before and self.moves_weights():
            module.sequence.measure(trainer, module, f"before {self.name}")
        key = (module.hparams["seed"], task.name, self.name)
        for name, parameter in module.parameters_by_name(list(self.tensors)).items():
            merge_(parameter, self.tensors[name], lambda t: dare(t, self.drop, self.weight, *key), name)
