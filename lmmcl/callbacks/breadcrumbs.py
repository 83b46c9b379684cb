"""Model Breadcrumbs along a sequence: after every task, undo the largest and the smallest values of its change."""

from collections.abc import Sequence

from lightning.pytorch import Trainer
from typing_extensions import override

from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.merge.breadcrumbs import breadcrumbs
from lmmcl.merge.tensor_pieces import merge_
from lmmcl.mitigation import ANCHOR, Copy, Mitigation
from lmmcl.model import ContinualLMM


class Breadcrumbs(Mitigation):
    """θ ← θ_0 + λ Σ mask(τ_i) after task k: of each tensor's change the largest and the smallest values are undone.

    Davari and Belilovsky, 2023, arXiv 2312.06795, section 3; the defaults are a reading (the sparsity of about 0.86
    that merges in practice use). Along a sequence this is a reading, too: τ_i is taken from where task i began, and
    the next task starts from the merge (arXiv 2412.06712 compares such choices), so that the sum telescopes to
    θ_start + λ mask(τ_k). The limits are exact over all shards of a tensor. Both the weights before and after it get a
    row of the matrix.

    Args:
        smallest: share of each tensor's values to undo at the lower end, in [0, 1].
        largest: share to undo at the upper end, the outliers, in [0, 1 − smallest].
        weight: λ, from 0; 0 leaves the base weights, byte for byte; 1 with nothing undone is plain fine-tuning.
        measure_before: also measure the weights before the merge.
        name: of its rows and state.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(
        self,
        smallest: float = 0.85,
        largest: float = 0.01,
        weight: float = 1.0,
        measure_before: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if not 0 <= smallest <= 1:
            raise UserError(f"trainer.callbacks: Breadcrumbs.smallest must lie in [0, 1], got {smallest}.")
        if not 0 <= largest <= 1 - smallest:
            raise UserError(
                f"trainer.callbacks: Breadcrumbs.largest must lie in [0, 1 − smallest], got {largest} beside "
                f"smallest {smallest}."
            )
        if not weight >= 0:
            raise UserError(f"trainer.callbacks: Breadcrumbs.weight must be at least 0, got {weight}.")
        self.smallest = smallest
        self.largest = largest
        self.weight = weight
        self.measure_before = measure_before

    @override
    def copies(self) -> Sequence[Copy]:
        return [ANCHOR] if self.moves_weights() else []

    @override
    def moves_weights(self) -> bool:
        return bool(self.smallest or self.largest) or self.weight != 1

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        self.tensors = dict(module.anchor()) if self.moves_weights() else {}

    @override
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if self.measure_before and self.moves_weights():
            module.sequence.measure(trainer, module, f"before {self.name}")
        settings = self.smallest, self.largest, self.weight
        for name, parameter in module.parameters_by_name(list(self.tensors)).items():
            merge_(parameter, self.tensors[name], lambda t: breadcrumbs(t, *settings), name)
