"""Dark experience replay: rows of finished tasks with the logits that the model gave them then (DER, DER++)."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from typing_extensions import override

from lmmcl.data.batches.batch import Batch
from lmmcl.data.batches.joined import JoinedRows
from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.data.general_set import GeneralSpec
from lmmcl.data.row import Row
from lmmcl.data.row_memory import RowMemory, Strategy
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.losses import cross_entropy
from lmmcl.mitigation import Mitigation
from lmmcl.model import ContinualLMM
from lmmcl.outputs.token_outputs import TokenOutputs
from lmmcl.probing.top_logits import top_logits


class DER(Mitigation):
    """Adds α MSE(logits, stored logits) on a draw of buffered rows.

    Buzzega et al., 2020, arXiv 2004.07211, equation 5. Our reading of it for long answers and large vocabularies: of
    every answer token the ``top_k`` largest logits are stored, and the squared difference is a mean over them, over
    the answer tokens and over the draw. The paper stores logits along the way, at the step in which a row enters the
    buffer; here rows enter when a stage is finished, with the logits of the model that was written as that stage,
    after all that moves its weights (WiSE-FT and the like). They are never renewed. Rows of a general set
    (``begin_with``) have the logits of the base model. Drawn rows serve this term alone: the answer loss does not see
    them. Each optimizer step has ``per_step`` of them beside its ``data.batch_size`` rows; a task takes as many steps
    as without. While the buffer is empty, in the first task, it is plain fine-tuning.

    Args:
        alpha: α, from 0; 0 is plain fine-tuning, bit for bit: no row joins.
        buffer: below 1 the share of every finished task's rows that is kept (at least one row); from 1 the number of
            rows in all; 0 keeps none.
        top_k: logits stored of an answer token, from 1: 8 bytes each.
        strategy: ``reservoir`` or ``balanced``, as for `Replay`.
        per_step: rows of the draw in every optimizer step, over all processes, from 1; None: as many as the step has of
            the task. Never more than the buffer holds.
        begin_with: a general set, as ``data.tasks`` holds a task, whose rows are in the buffer from the beginning.
        begin_samples: how many of them.
        name: of the logged term and the state; it enters the draws.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(
        self,
        alpha: float = 0.3,
        buffer: float = 0.01,
        top_k: int = 64,
        strategy: Strategy = "reservoir",
        per_step: int | None = None,
        begin_with: GeneralSpec | None = None,
        begin_samples: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        kind = type(self).__name__
        if not alpha >= 0:
            raise UserError(f"trainer.callbacks: {kind}.alpha must be at least 0, got {alpha}.")
        for key, value in (("top_k", top_k), ("per_step", per_step)):
            if value is not None and value < 1:
                raise UserError(f"trainer.callbacks: {kind}.{key} must be at least 1, got {value}.")
        self._memory = RowMemory(buffer, strategy, begin_with, begin_samples, kind)
        self.alpha = alpha
        self.buffer = buffer
        self.top_k = top_k
        self.strategy = strategy
        self.per_step = per_step
        self.begin_with = begin_with
        self.begin_samples = begin_samples
        self.fingerprint: list[Any] = []
        self._lengths: list[int] = []
        self._starts: dict[str, int] = {}
        self._joins = False

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and isinstance(pl_module, ContinualLMM):
            self.fingerprint = self._memory.find_general(pl_module.data)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {**self._memory.state(), "lengths": self._lengths}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._memory.load(state_dict)
        self._lengths = state_dict["lengths"]

    def strengths(self) -> Mapping[str, float]:
        """What is made of each draw of rows, and how strongly."""
        return {"logits": self.alpha}

    @override
    def join(self, trainer: Trainer, module: ContinualLMM, task: Task) -> Sequence[JoinedRows]:
        rows = self._memory.rows(module.data)
        joined = self._joined(module.data, task, rows)
        self._joins = bool(joined)
        if not joined:
            return ()
        self._starts = dict(zip((row.id for row in rows), accumulate([0, *self._lengths]), strict=False))
        much = " and ".join(str(one.per_step) for one in joined)
        module.sequence.report_notice(
            f"{self.name}: {much} of {len(rows)} kept rows join every step of {task.name}"
        )
        return joined

    @override
    def foresee_joined(self, data: TaskSequenceDataModule, task: Task) -> Sequence[JoinedRows]:
        return self._joined(data, task, self._memory.foreseen(data, task.name, data.seed, self.name))

    def _joined(self, data: TaskSequenceDataModule, task: Task, rows: Sequence[Row]) -> list[JoinedRows]:
        each = min(self.per_step or data.steps.of(task), len(rows))
        draws = [draw for draw, strength in self.strengths().items() if strength and each]
        return [JoinedRows(f"{self.name} {draw}", rows, each, taught=False) for draw in draws]

    @override
    def token_loss(self, module: ContinualLMM, batch: Batch, outputs: TokenOutputs) -> Tensor | None:
        if not self._joins:
            return None
        samples, device = outputs.samples, outputs.labels.device
        marks = {draw: f"{self.name} {draw}/" for draw in self.strengths()}
        strengths = torch.tensor(
            [[s * name.startswith(marks[d]) for name in batch.ids] for d, s in self.strengths().items()],
            dtype=torch.float32,
            device=device,
        )[:, samples]  # (draws, tokens)
        begins = torch.tensor(
            [self._starts.get(name.removeprefix(marks["logits"]), 0) for name in batch.ids], device=device
        )
        first = torch.searchsorted(samples, torch.arange(len(batch.ids), device=device))
        place = begins[samples] + torch.arange(len(samples), device=device) - first[samples]
        place = torch.where(strengths[0] > 0, place, 0)
        words, stored = self.tensors["words"][place].long(), self.tensors["logits"][place]

        def term(logits: Tensor, labels: Tensor, words: Tensor, stored: Tensor, strengths: Tensor) -> Tensor:
            square = (logits.float().gather(-1, words) - stored).square().mean(-1)
            matched = strengths[:, 0] * square
            if strengths.shape[1] == 1:
                return matched
            return matched + strengths[:, 1] * cross_entropy(logits, labels)

        return outputs.map(term, beside=[words, stored, strengths.T])

    @override
    def on_stage_end(
        self, trainer: Trainer, module: ContinualLMM, task: Task | None, scores: Mapping[str, float]
    ) -> None:
        stage = module.sequence.position.stage
        if not any(self.strengths().values()) or stage == len(module.data.tasks):
            return
        before = list(self._memory.kept)
        self._memory.end_stage(module.data, stage, module.hparams["seed"], self.name)
        kept = self._memory.kept
        stored: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
        if before:
            parts = (self.tensors[key].split(self._lengths) for key in ("words", "logits"))
            stored = dict(zip(before, zip(*parts, strict=True), strict=True))
        new = [item for item in kept if item not in stored]
        if new:
            module.sequence.report_notice(f"{self.name}: logits of {len(new)} rows that stage {stage} leaves")
            lengths, *made = top_logits(module, self._memory.rows(module.data, new), self.top_k)
            words, logits = (tensor.split(lengths) for tensor in made)
            stored |= dict(zip(new, zip(words, logits, strict=True), strict=True))
        self._lengths = [len(stored[item][0]) for item in kept]
        if kept:
            words, logits = zip(*(stored[item] for item in kept), strict=True)
            self.tensors = {"words": torch.cat(words), "logits": torch.cat(logits)}


class DERpp(DER):
    """DER++: DER, and β times the answer loss on a second draw of buffered rows.

    Buzzega et al., 2020, arXiv 2004.07211, equation 6. β weighs the mean over the answer tokens of the second draw
    against the mean over those of the task, as in the paper; `Replay` takes one mean over both instead.

    Args:
        alpha: α, from 0.
        beta: β, from 0; 0 is DER. With both 0 it is plain fine-tuning, bit for bit: no row joins.
        buffer: as for `DER`.
        top_k: as for `DER`.
        strategy: as for `DER`.
        per_step: rows of each of the two draws.
        begin_with: as for `DER`.
        begin_samples: as for `DER`.
        name: of the logged term and the state; it enters the draws.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.5,
        buffer: float = 0.01,
        top_k: int = 64,
        strategy: Strategy = "reservoir",
        per_step: int | None = None,
        begin_with: GeneralSpec | None = None,
        begin_samples: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(alpha, buffer, top_k, strategy, per_step, begin_with, begin_samples, name)
        if not beta >= 0:
            raise UserError(f"trainer.callbacks: DERpp.beta must be at least 0, got {beta}.")
        self.beta = beta

    @override
    def strengths(self) -> Mapping[str, float]:
        return {**super().strengths(), "answers": self.beta}
