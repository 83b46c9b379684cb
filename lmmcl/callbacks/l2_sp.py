"""L2-SP: pull the weights towards those of the base model."""

from collections.abc import Sequence

from lightning.pytorch import Trainer
from torch import Tensor
from typing_extensions import override

from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.mitigation import Copy, Mitigation
from lmmcl.model import ContinualLMM
from lmmcl.weights import local


class L2SP(Mitigation):
    """Adds (α/2) ‖θ − θ₀‖² over the trained tensors; θ₀ are the base model's.

    Li et al., 2018, arXiv 1802.01483, section 3.2; the paper's second term is for new layers, of which there are
    none here. It costs one copy of all that trains in any task so far.

    Args:
        alpha: α, from 0; 0 is plain fine-tuning, bit for bit.
        name: of the logged term and the state.

    Raises:
        UserError: α is below 0.
    """

    def __init__(self, alpha: float = 0.01, name: str | None = None) -> None:
        super().__init__(name)
        if not alpha >= 0:
            raise UserError(f"trainer.callbacks: L2SP.alpha must be at least 0, got {alpha}.")
        self.alpha = alpha

    @override
    def copies(self) -> Sequence[Copy]:
        return [Copy("so far", in_stage=True)] if self.alpha else []

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if self.alpha and module.trained.keys() - self.tensors.keys():
            self.tensors = {**module.anchor(), **self.tensors}

    @override
    def weight_penalty(self, name: str, shard: Tensor) -> Tensor | None:
        if not self.alpha:
            return None
        return self.alpha / 2 * (shard - local(self.tensors[name])).square().sum()
