"""Measures targets and held-out tasks at every stage, and watches a few held-out answers while a task is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from lmmcl.data.batches.batch import Batch
from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.data.row import Row
from lmmcl.data.task import Part, Task
from lmmcl.errors import UserError
from lmmcl.evaluation.evaluator import Kept, evaluate
from lmmcl.evaluation.flip_pictures import keep_flips
from lmmcl.evaluation.predictions import PredictionStore, result_key
from lmmcl.evaluation.result import TaskResult
from lmmcl.mitigation import StageCallback
from lmmcl.model import ContinualLMM
from lmmcl.outputs.logit_rows import TokenFunction
from lmmcl.position import Stage
from lmmcl.probing.kept_prompts import KeptPrompts
from lmmcl.probing.probe import shortened
from lmmcl.report.artefacts import write_artefacts
from lmmcl.structure.widths import Widths

_BASE = "canary_log_probabilities"
_ANSWER_TOKENS = 8
"""Of each canary prompt so many answer tokens count, from the first: what it keeps of the base model stays small."""


def canary_reading(logits: Tensor, labels: Tensor, base: Tensor) -> Tensor:
    """Loss of each answer token and the divergence of the present distribution from the base model's, in nats.

    Args:
        logits: (tokens, vocabulary), of the present model.
        labels: (tokens,) token ids.
        base: (tokens, vocabulary) log-probabilities of the base model.

    Returns:
        (tokens, 2): negative log-likelihood and KL(base ‖ present), in fp32.
    """
    present = functional.log_softmax(logits.float(), dim=-1)
    loss = functional.nll_loss(present, labels, reduction="none")
    divergence = functional.kl_div(present, base, reduction="none", log_target=True).sum(dim=-1)
    return torch.stack([loss, divergence], dim=-1)


class HeldOutEvaluation(StageCallback):
    """Answers every task's test part with the base model and after every stage; the scores become the matrix.

    Between stages a canary sings: every few steps the loss of the gold answers to some held-out prompts (from their
    ``dev`` part, teacher-forced) and the KL divergence of the base model's next-token distribution from the present
    one. They cost a forward each and show forgetting while there is time to stop it. The first 8 answer tokens of a
    prompt count. The base model's log-probabilities there are kept in fp32 on every process and in every checkpoint:
    32 bytes per prompt and word of the vocabulary, 311 MB for 64 prompts and 152,064 words.

    Args:
        batch_size: prompts answered, or read by the canary, at once on one process; a run may go on with another one.
        every_n_steps: also measure every so many optimizer steps inside a task; None: at stages only.
        canary_every_n_steps: optimizer steps between two readings of the canary; 0 turns it off.
        canary_samples: held-out prompts the canary reads, dealt over the held-out tasks that have ``dev`` rows.
        part: which rows the matrix holds: ``test``, what is reported, or ``dev``, for a run that only serves to choose
            something (a learning rate, a strength).
        name: of its state.
    """

    may_change: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    def __init__(
        self,
        batch_size: int = 32,
        every_n_steps: int | None = None,
        canary_every_n_steps: int = 20,
        canary_samples: int = 64,
        part: Literal["test", "dev"] = "test",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if batch_size < 1:
            raise UserError(
                f"trainer.callbacks: HeldOutEvaluation.batch_size must be at least 1, got {batch_size}."
            )
        if every_n_steps is not None and every_n_steps < 1:
            raise UserError(
                f"trainer.callbacks: HeldOutEvaluation.every_n_steps must be at least 1 or null, got {every_n_steps}."
            )
        if canary_every_n_steps < 0 or canary_samples < 1:
            raise UserError(
                "trainer.callbacks: HeldOutEvaluation.canary_every_n_steps must be at least 0 and canary_samples at "
                f"least 1, got {canary_every_n_steps} and {canary_samples}."
            )
        if part not in ("test", "dev"):
            raise UserError(f"trainer.callbacks: HeldOutEvaluation.part must be test or dev, got {part!r}.")
        self.batch_size = batch_size
        self.every_n_steps = every_n_steps
        self.canary_every_n_steps = canary_every_n_steps
        self.canary_samples = canary_samples
        self.part: Part = part
        self._canary: list[Batch] | None = None
        self._prompts = KeptPrompts()

    @override
    def state_bytes(self, widths: Widths, on_disk: bool = False) -> int:
        return 4 * _ANSWER_TOKENS * self.canary_samples * widths.vocabulary * bool(self.canary_every_n_steps)

    @override
    def evaluate(self, trainer: Trainer, module: ContinualLMM, stage: Stage) -> Mapping[str, TaskResult]:
        data = module.data
        tasks = [*data.tasks, *data.held_out]
        kept = Kept(
            PredictionStore(module.sequence.run.predictions),
            stage.predictions,
            {task.name: self._key(module, task, stage) for task in tasks},
        )
        found = evaluate(
            module,
            tasks,
            {task.name: data.eval_rows(task, self.part) for task in tasks},
            self._prompts.of(module),
            batch_size=self.batch_size,
            kept=kept,
            stop=lambda: module.sequence.stop.requested,
            progress=module.sequence.report_progress,
        )
        results = {result.task: result for result in found}
        return {task.name: results[task.name] for task in tasks}

    def _key(self, module: ContinualLMM, task: Task, stage: Stage) -> str:
        settings = {
            "batch_size": self.batch_size,
            "max_eval_samples": module.data.max_eval_samples,
            "max_new_tokens": task.max_new_tokens,
            "part": self.part,
            "precision": str(module.trainer.precision),
            "scorer": task.scored_by,
        }
        return result_key(stage.weights, task.source.fingerprint(), settings)

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if self.canary_every_n_steps and _BASE not in self.tensors and self._batches(module):
            self.tensors[_BASE] = self._map(module, lambda logits, labels: logits.float().log_softmax(dim=-1))

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, ContinualLMM)
        # Stopped inside a measurement, the step was saved and its row was not; one that was kept costs nothing.
        self._measure_between(trainer, pl_module, pl_module.sequence.position.step)

    def _measure_between(self, trainer: Trainer, module: ContinualLMM, step: int) -> None:
        if self.every_n_steps and 0 < step < module.steps_in_task and step % self.every_n_steps == 0:
            module.sequence.measure(trainer, module, f"step {step}")

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, ContinualLMM)
        if not pl_module.sequence.is_new_step(trainer):
            return
        step = pl_module.sequence.position.step + 1
        if _BASE in self.tensors and step % self.canary_every_n_steps == 0:
            loss, divergence = self._map(pl_module, canary_reading, self.tensors[_BASE]).mean(dim=0)
            pl_module.log("held_out_loss", loss, prog_bar=True, rank_zero_only=True)
            pl_module.log("held_out_kl", divergence, prog_bar=True, rank_zero_only=True)
        self._measure_between(trainer, pl_module, step)

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, ContinualLMM)
        if trainer.is_global_zero:
            data = pl_module.data
            rows = {task.name: data.eval_rows(task, self.part) for task in (*data.tasks, *data.held_out)}
            keep_flips(pl_module.run_path, rows)
            write_artefacts(pl_module.run_path)

    def _map(self, module: ContinualLMM, function: TokenFunction, *beside: Tensor) -> Tensor:
        """Applies a function to all answer tokens of the canary, see `TokenOutputs.map`."""
        found, done = [], 0
        with module.inference(gather=False):
            for batch in self._batches(module):
                outputs = module.token_outputs(batch.to(module.device))
                end = done + len(outputs)
                found.append(outputs.map(function, beside=[tensor[done:end] for tensor in beside]))
                done = end
            module.free_gathered()
        return torch.cat(found)

    def _batches(self, module: ContinualLMM) -> list[Batch]:
        """The canary's prompts and answers; none where no held-out task has ``dev`` rows."""
        if self._canary is None:
            rows = self._deal(module.data)
            at_once = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
            self._canary = [shortened(module.data.collator.train(part), _ANSWER_TOKENS) for part in at_once]
        return self._canary

    def _deal(self, data: TaskSequenceDataModule) -> list[Row]:
        """Some ``dev`` rows of every held-out task, in turns; says which tasks have none."""
        parts: list[Sequence[Row]] = []
        silent: list[str] = []
        for task in data.held_out:
            try:
                parts.append(data.eval_rows(task, "dev", self.canary_samples))
            except UserError:  # a small file, whose split left no row for dev
                silent.append(task.name)
        if silent:
            rank_zero_warn(
                f"HeldOutEvaluation: the canary leaves out {', '.join(silent)}, which must have rows for dev to be read"
                f"{'' if parts else '; it is off'}. They are measured at every stage all the same."
            )
        dealt = [part[i] for i in range(self.canary_samples) for part in parts if i < len(part)]
        return dealt[: self.canary_samples]
