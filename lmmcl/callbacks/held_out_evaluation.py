"""Measures targets and held-out tasks at every stage, and watches a few held-out answers while a task is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from lmmcl.data.batch import Batch
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.evaluation.evaluator import Kept, evaluate
from lmmcl.evaluation.predictions import PredictionStore, result_key
from lmmcl.evaluation.result import TaskResult
from lmmcl.losses import cross_entropy
from lmmcl.mitigation import StageCallback
from lmmcl.model import ContinualLMM
from lmmcl.report.artefacts import write_artefacts
from lmmcl.sequence import Stage

_AT_ONCE = 32
_BASE = "canary_log_probabilities"


class HeldOutEvaluation(StageCallback):
    """Answers every task's test part with the base model and after every stage; the scores become the matrix.

    Between stages a canary sings: every few steps the loss of the gold answers to some held-out prompts (from their
    ``dev`` part, teacher-forced) and the KL divergence of the base model's next-token distribution from the present
    one. They cost a forward each and show forgetting while there is time to stop it.

    Args:
        batch_size: prompts answered at once on one process.
        every_n_steps: also measure every so many optimizer steps inside a task; None: at stages only.
        canary_every_n_steps: optimizer steps between two readings of the canary; 0 turns it off.
        canary_samples: held-out prompts the canary reads, dealt over the held-out tasks.
        name: of its state.
    """

    def __init__(
        self,
        batch_size: int = 32,
        every_n_steps: int | None = None,
        canary_every_n_steps: int = 20,
        canary_samples: int = 64,
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
        self.batch_size = batch_size
        self.every_n_steps = every_n_steps
        self.canary_every_n_steps = canary_every_n_steps
        self.canary_samples = canary_samples
        self._canary: list[Batch] = []

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
            {task.name: data.eval_rows(task) for task in tasks},
            data.collator.prompts,
            batch_size=self.batch_size,
            kept=kept,
            stop=lambda: module.sequence.stop_requested,
            progress=module.sequence.report_progress,
        )
        results = {result.task: result for result in found}
        return {task.name: results[task.name] for task in tasks}

    def _key(self, module: ContinualLMM, task: Task, stage: Stage) -> str:
        settings = {
            "batch_size": self.batch_size,
            "max_eval_samples": module.data.max_eval_samples,
            "max_new_tokens": task.max_new_tokens,
            "precision": str(module.trainer.precision),
            "scorer": getattr(task.scorer, "__qualname__", type(task.scorer).__qualname__),
        }
        return result_key(stage.weights, task.source.fingerprint(), settings)

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if self.canary_every_n_steps and module.data.held_out and _BASE not in self.tensors:
            self.tensors[_BASE] = torch.cat(
                [log_probabilities for log_probabilities, _ in self._sing(module)]
            )

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, ContinualLMM)
        if not pl_module.sequence.is_new_step(trainer):
            return
        step = pl_module.sequence.position.step + 1
        if _BASE in self.tensors and step % self.canary_every_n_steps == 0:
            loss, divergence = self._read_canary(pl_module)
            pl_module.log("held_out_loss", loss, prog_bar=True, rank_zero_only=True)
            pl_module.log("held_out_kl", divergence, prog_bar=True, rank_zero_only=True)
        if self.every_n_steps and step % self.every_n_steps == 0 and step < pl_module.steps_in_task:
            pl_module.sequence.measure(trainer, pl_module, f"step {step}")

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, ContinualLMM)
        if trainer.is_global_zero:
            write_artefacts(pl_module.run_path)

    def _read_canary(self, module: ContinualLMM) -> tuple[Tensor, Tensor]:
        """Loss of the gold answers and KL(base ‖ present), both per answer token in nats."""
        readings = self._sing(module)
        present = torch.cat([log_probabilities for log_probabilities, _ in readings])
        loss = torch.cat([nll for _, nll in readings]).mean()
        divergence = functional.kl_div(present, self.tensors[_BASE], reduction="batchmean", log_target=True)
        return loss, divergence

    def _sing(self, module: ContinualLMM) -> list[tuple[Tensor, Tensor]]:
        """Log-probabilities (tokens, vocabulary) and losses (tokens,) at the canary's answers, per batch."""
        readings = []
        with module.inference(gather=False):
            for batch in self._batches(module):
                outputs = module.token_outputs(batch.to(module.device))
                log_probabilities = outputs.map(lambda logits, labels: logits.float().log_softmax(dim=-1))
                readings.append((log_probabilities, outputs.map(cross_entropy)))
            module.free_gathered()
        return readings

    def _batches(self, module: ContinualLMM) -> list[Batch]:
        if not self._canary:
            data = module.data
            parts = [data.eval_rows(task, "dev", self.canary_samples) for task in data.held_out]
            dealt = [part[i] for i in range(self.canary_samples) for part in parts if i < len(part)]
            rows = dealt[: self.canary_samples]
            self._canary = [
                data.collator.train(rows[i : i + _AT_ONCE]) for i in range(0, len(rows), _AT_ONCE)
            ]
        return self._canary
