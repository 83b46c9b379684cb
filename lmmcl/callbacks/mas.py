"""Memory aware synapses: keep the weights that the model's output is sensitive to."""

from collections.abc import Sequence

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from typing_extensions import override

from lmmcl.data.row import Row
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.losses import consolidation
from lmmcl.mitigation import Copy, Mitigation
from lmmcl.model import ContinualLMM
from lmmcl.probing.calibration import draw_rows, mean_over_samples
from lmmcl.weights import local, snapshot


def squared_norm(logits: Tensor, labels: Tensor) -> Tensor:
    """‖f(x)‖² of each token's logits.

    Args:
        logits: (tokens, vocabulary).
        labels: (tokens,); what the right answer is does not matter here.

    Returns:
        (tokens,) in fp32.
    """
    return logits.float().square().sum(dim=-1)


class MAS(Mitigation):
    """Adds λ Σ Ω (θ − θ*)²: what the outputs of the tasks so far are sensitive to stays near its value.

    Aljundi et al., 2018, arXiv 1711.09601, equations 2 to 4. Ω is the mean over samples of |∂‖f(x)‖²/∂θ|, with f(x)
    the logits at the answer tokens; those of all tasks are summed. It is measured at the end of a task, on a fixed
    draw of the rows as they came to this callback, in one backward pass a sample; θ* are the weights at that moment.
    It costs two copies of all that was trained so far.

    Args:
        weight: λ, from 0; 0 is plain fine-tuning, bit for bit.
        batches: Ω is the mean over so many batches of ``data.batch_size`` samples, from 1.
        name: of the logged term and the state.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(self, weight: float = 1.0, batches: int = 50, name: str | None = None) -> None:
        super().__init__(name)
        if not weight >= 0:
            raise UserError(f"trainer.callbacks: MAS.weight must be at least 0, got {weight}.")
        if batches < 1:
            raise UserError(f"trainer.callbacks: MAS.batches must be at least 1, got {batches}.")
        self.weight = weight
        self.batches = batches
        self._rows: Sequence[Row] = ()

    @override
    def copies(self) -> Sequence[Copy]:
        return [Copy("so far", in_stage=True), Copy("so far")] if self.weight else []

    @override
    def select(
        self, trainer: Trainer, module: ContinualLMM, task: Task, rows: Sequence[Row]
    ) -> Sequence[Row]:
        self._rows = rows
        return rows

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if self.tensors and not any(f"importance/{name}" in self.tensors for name in module.trained):
            module.sequence.report_notice(
                f"{self.name} does nothing in {task.name}: no task before it trained what it trains."
            )

    @override
    def weight_penalty(self, name: str, shard: Tensor) -> Tensor | None:
        if f"importance/{name}" not in self.tensors:
            return None
        anchor, importance = self.tensors[f"anchor/{name}"], self.tensors[f"importance/{name}"]
        return self.weight * consolidation(shard, local(anchor), local(importance))

    @override
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if not self.weight:
            return
        rows = draw_rows(module, self._rows, self.batches * module.data.steps.of(task), "sensitivity")
        module.sequence.report_notice(f"{self.name}: sensitivity of {task.name} on {len(rows)} samples")
        found = mean_over_samples(module, rows, lambda o: o.map(squared_norm).sum(), torch.abs)
        for name, anchor in snapshot(module.trained_parameters()).items():
            before = self.tensors.get(f"importance/{name}")
            self.tensors[f"importance/{name}"] = found[name] if before is None else before + found[name]
            self.tensors[f"anchor/{name}"] = anchor
