"""Learning without Forgetting: distil the model of the previous stage on the present task's samples."""

from collections.abc import Sequence
from typing import Literal

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from typing_extensions import override

from lmmcl.data.batches.batch import Batch
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.losses import distillation
from lmmcl.mitigation import ANCHOR, Copy, Mitigation
from lmmcl.model import ContinualLMM
from lmmcl.outputs.token_outputs import TokenOutputs


def shares(everywhere: Tensor, answers: Tensor, samples: int) -> Tensor:
    """What each position weighs where all positions of a sample together weigh as much as its answer tokens.

    Args:
        everywhere: (positions,) which sample each position belongs to.
        answers: (tokens,) which sample each answer token belongs to.
        samples: of the batch.

    Returns:
        (positions,) in fp32: answer tokens of its sample over positions of its sample.
    """
    positions, tokens = (torch.bincount(of, minlength=samples) for of in (everywhere, answers))
    return (tokens / positions)[everywhere]


class LwF(Mitigation):
    """Adds λ τ² KL(teacher ‖ student) at the answer tokens, or at all positions; the teacher is the model before.

    Li and Hoiem, 2016, arXiv 1606.09282; a baseline of arXiv 2510.08564. The teacher is the model after the
    previous stage, the base model at the first. It shares the frozen tensors with the student: what it costs in
    memory is one copy of the tensors that train, and in time one forward without a gradient.

    The term is a mean, as the loss is, so that λ weighs one against the other: with ``answer`` over the answer tokens
    of the global batch; with ``all``, where prompt and picture may be a thousand positions for an answer token, over
    the positions of each sample, and over the samples by their answer tokens, as in the loss. Were everything an
    answer, both would be the same. ``all`` makes the logits of every position, a chunk at a time.

    Args:
        weight: λ, from 0; 0 is plain fine-tuning, bit for bit.
        temperature: τ, above 0.
        positions: distil at the ``answer`` tokens, or at ``all`` positions: prompt, picture and answer.
        name: of the logged term.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(
        self,
        weight: float = 1.0,
        temperature: float = 2.0,
        positions: Literal["answer", "all"] = "answer",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if weight < 0:
            raise UserError(f"trainer.callbacks: LwF.weight must be at least 0, got {weight}.")
        if not temperature > 0:
            raise UserError(f"trainer.callbacks: LwF.temperature must be above 0, got {temperature}.")
        if positions not in ("answer", "all"):
            raise UserError(f"trainer.callbacks: LwF.positions must be answer or all, got {positions!r}.")
        self.weight = weight
        self.temperature = temperature
        self.positions = positions
        self._teacher: TokenOutputs | None = None

    @override
    def copies(self) -> Sequence[Copy]:
        return [ANCHOR] if self.weight else []

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        self.tensors = dict(module.anchor()) if self.weight else {}

    @override
    def before_forward(self, module: ContinualLMM, batch: Batch) -> None:
        if not self.weight:
            return
        outputs = module.token_outputs(batch, weights=self.tensors, everywhere=self.positions == "all")
        self._teacher = outputs if outputs.everywhere is None else outputs.everywhere

    @override
    def token_loss(self, module: ContinualLMM, batch: Batch, outputs: TokenOutputs) -> Tensor | None:
        if self._teacher is None:
            return None

        def divergence(student: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
            return distillation(student, teacher, self.temperature)

        if self.positions == "answer":
            return self.weight * outputs.map(divergence, self._teacher)
        assert outputs.everywhere is not None
        found = outputs.everywhere.map(divergence, self._teacher)
        return self.weight * shares(outputs.everywhere.samples, outputs.samples, len(batch)) * found
