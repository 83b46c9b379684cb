"""WiSE-FT: after every task, interpolate between the weights before and after it."""

from collections.abc import Sequence

from lightning.pytorch import Trainer
from typing_extensions import override

from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.mitigation import ANCHOR, Copy, Mitigation
from lmmcl.model import ContinualLMM
from lmmcl.weights import mix_


class WiSEFT(Mitigation):
    """θ ← α θ_previous + (1 − α) θ_new over the trained tensors, summed in fp32.

    Wortsman et al., 2021, arXiv 2109.01903; after every stage as in arXiv 2510.08564. The next task starts from
    the merge. Both the weights before and after it get a row of the matrix.

    Args:
        alpha: α in [0, 1]: the share of the previous weights; 0 keeps the tuned model, 1 the previous one, byte for
            byte. The study's code uses 0.1, its text 0.5.
        measure_before: also measure the weights before the merge.
        name: of its rows and state.
    """

    def __init__(self, alpha: float = 0.5, measure_before: bool = True, name: str | None = None) -> None:
        super().__init__(name)
        if not 0 <= alpha <= 1:
            raise UserError(f"trainer.callbacks: WiSEFT.alpha must lie in [0, 1], got {alpha}.")
        self.alpha = alpha
        self.measure_before = measure_before

    @override
    def copies(self) -> Sequence[Copy]:
        return [ANCHOR]

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        self.tensors = dict(module.anchor())

    @override
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if self.measure_before:
            module.sequence.measure(trainer, module, f"before {self.name}")
        mix_(module.parameters_by_name(list(self.tensors)), self.tensors, self.alpha)
