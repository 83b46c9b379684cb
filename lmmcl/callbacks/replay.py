"""Replay: rows of finished tasks are learned again beside those of the present one."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from typing_extensions import override

from lmmcl.data.batches.joined import JoinedRows
from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.data.general_set import GeneralSpec
from lmmcl.data.row import Row
from lmmcl.data.row_memory import RowMemory, Strategy
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.mitigation import Mitigation
from lmmcl.model import ContinualLMM


class Replay(Mitigation):
    """Learns on batch and buffer together: the answer loss of a step is the mean over the answer tokens of both.

    Experience replay with a small episodic memory (Chaudhry et al., 2019, arXiv 1902.10486). When a stage is finished,
    some rows of its task enter the buffer (see `RowMemory`). From then on ``per_step`` buffered rows join the
    ``data.batch_size`` rows of every optimizer step: a task takes as many steps as without, each with more samples. The
    buffered rows are met in shuffled turns, all equally often: with 8 a step and 16 in the buffer, each in every
    second step. While the buffer is empty, in the first task, it is plain fine-tuning. What is kept are positions of
    rows, which are read again from their sources. The rows are those of the tasks, not what other mitigations mix in.

    Args:
        buffer: below 1 the share of every finished task's rows that is kept (at least one row); from 1 the number of
            rows in all; 0 keeps none and is plain fine-tuning, bit for bit.
        strategy: ``reservoir``: every row of the past is kept with the same probability; ``balanced``: every past task
            has the same number of rows in the buffer.
        per_step: buffered rows that join every optimizer step, over all processes, from 1; None: as many as the step
            has of the task, as in the paper. Never more than the buffer holds.
        begin_with: a general set, as ``data.tasks`` holds a task, whose rows are in the buffer from the beginning.
        begin_samples: how many of them.
        name: of its state; it enters the draws.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(
        self,
        buffer: float = 0.01,
        strategy: Strategy = "reservoir",
        per_step: int | None = None,
        begin_with: GeneralSpec | None = None,
        begin_samples: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if per_step is not None and per_step < 1:
            raise UserError(
                f"trainer.callbacks: Replay.per_step must be at least 1, got {per_step}; for none: buffer: 0."
            )
        self._memory = RowMemory(buffer, strategy, begin_with, begin_samples, "Replay")
        self.buffer = buffer
        self.strategy = strategy
        self.per_step = per_step
        self.begin_with = begin_with
        self.begin_samples = begin_samples
        self.fingerprint: list[Any] = []

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and isinstance(pl_module, ContinualLMM):
            self.fingerprint = self._memory.find_general(pl_module.data)

    @override
    def state_dict(self) -> dict[str, Any]:
        return self._memory.state()

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._memory.load(state_dict)

    @override
    def join(self, trainer: Trainer, module: ContinualLMM, task: Task) -> Sequence[JoinedRows]:
        rows = self._memory.rows(module.data)
        if not rows:
            return ()
        (joined,) = self._joined(module.data, task, rows)
        module.sequence.report_notice(
            f"{self.name}: {joined.per_step} of {len(rows)} kept rows join every step of {task.name}"
        )
        return [joined]

    @override
    def foresee_joined(self, data: TaskSequenceDataModule, task: Task) -> Sequence[JoinedRows]:
        return self._joined(data, task, self._memory.foreseen(data, task.name, data.seed, self.name))

    def _joined(self, data: TaskSequenceDataModule, task: Task, rows: Sequence[Row]) -> list[JoinedRows]:
        each = min(self.per_step or data.steps.of(task), len(rows))
        return [JoinedRows(self.name, rows, each)] if each else []

    @override
    def on_stage_end(
        self, trainer: Trainer, module: ContinualLMM, task: Task | None, scores: Mapping[str, float]
    ) -> None:
        self._memory.end_stage(module.data, module.sequence.position.stage, module.hparams["seed"], self.name)
