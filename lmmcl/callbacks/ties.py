"""TIES along a sequence: after every task, merge what all tasks so far changed, without their conflicts."""

from collections.abc import Sequence

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from typing_extensions import override

from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.merge.pieces import Piece, landed
from lmmcl.merge.threshold import kept_values
from lmmcl.merge.ties import Ballot
from lmmcl.mitigation import ANCHOR, Copy, Mitigation
from lmmcl.model import ContinualLMM
from lmmcl.weights import local

_SUMS = ("positive", "negative", "positives", "negatives")


class TIES(Mitigation):
    """θ ← θ_0 + λ · disjoint mean of the trimmed τ_1 … τ_k after task k, over the trained tensors.

    Yadav et al., 2023, arXiv 2306.01708, section 4: of each change the largest values are kept, each weight's sign is
    elected by their sum, and those that agree with it are averaged. The paper trims a task vector as a whole and
    merges tasks that all began at the base. Two readings here: every tensor is trimmed for itself, exact over all
    shards; and along a sequence τ_i is taken from where task i began, while the next task starts from the merge (arXiv
    2412.06712 compares such choices). What a task leaves out of a tensor does not vote there. Its state are sums, not
    vectors, and so does not grow with the tasks: five copies of what was trained so far, of which θ_0 needs no disk.

    Args:
        keep: share of each tensor's values to keep of a task's change, in [0, 1]; 0 leaves the base weights. The
            paper keeps 0.2.
        weight: λ, from 0; 0 leaves the base weights, byte for byte; 1 with all kept is plain fine-tuning while
            only one task has changed a tensor.
        measure_before: also measure the weights before the merge.
        name: of its rows and state.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(
        self, keep: float = 0.2, weight: float = 1.0, measure_before: bool = True, name: str | None = None
    ) -> None:
        super().__init__(name)
        if not 0 <= keep <= 1:
            raise UserError(f"trainer.callbacks: TIES.keep must lie in [0, 1], got {keep}.")
        if not weight >= 0:
            raise UserError(f"trainer.callbacks: TIES.weight must be at least 0, got {weight}.")
        self.keep = keep
        self.weight = weight
        self.measure_before = measure_before

    @override
    def copies(self) -> Sequence[Copy]:
        # Two sums in fp32, and two counts that take half a copy each.
        return [ANCHOR, Copy("so far", in_stage=True), *[Copy("so far")] * 3]

    @override
    def moves_weights(self) -> bool:
        return True

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        kept = {key: tensor for key, tensor in self.tensors.items() if not key.startswith("start/")}
        for name, anchor in module.anchor().items():
            kept[f"start/{name}"] = anchor
            kept.setdefault(f"base/{name}", anchor)
        self.tensors = kept

    @override
    @torch.no_grad()
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if self.measure_before:
            module.sequence.measure(trainer, module, f"before {self.name}")
        for name, parameter in module.trained_parameters().items():
            start, base = self.tensors.pop(f"start/{name}"), self.tensors[f"base/{name}"]
            change = local(parameter).detach() - local(start)
            vector = torch.where(kept_values(change, self.keep, start), change, 0.0)
            ballot = self._ballot(name, base)
            ballot.cast_(vector)
            piece = Piece(0, local(base), [local(parameter).detach()])
            merged = landed(piece, piece.vectors, self.weight * ballot.mean())
            local(parameter).copy_(merged)

    def _ballot(self, name: str, base: Tensor) -> Ballot:
        """This process's part of the sums for a tensor, which stay in the state."""
        if f"positive/{name}" not in self.tensors:
            for part in _SUMS:
                dtype = torch.int16 if part.endswith("s") else base.dtype
                self.tensors[f"{part}/{name}"] = torch.zeros_like(base, dtype=dtype)
        return Ballot(*(local(self.tensors[f"{part}/{name}"]) for part in _SUMS))
