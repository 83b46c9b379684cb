"""Data-hybrid training: a general set is mixed into every task's rows."""

from collections.abc import Sequence
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from typing_extensions import override

from lmmcl.data.batches.mixing import mix, mixed_counts
from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.data.general_set import GeneralSet, GeneralSpec
from lmmcl.data.row import Row
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.mitigation import Mitigation
from lmmcl.model import ContinualLMM


class DataMix(Mitigation):
    """Mixes a general set into what every task trains on, interleaved at ratio r until both are used up.

    Data-hybrid training of arXiv 2603.14493 (r 0.5, swept from 0 to 0.7). The reading here: r is the share of general
    rows in the rows of an epoch. An epoch ends when every row of the task and every row of the general set has been
    seen; the one that is used up first begins again until then. So a task of n rows and a general set of m rows make
    an epoch of max(n / (1 − r), m / r) rows, and the run takes more steps than plain fine-tuning; ``data.batch_size``
    still counts all samples of a step. Every step holds the general rows at their share, to within one row, also with
    ``data.group_by_length``. The order depends on the run's seed, task and epoch alone.

    Args:
        data: the general set, as ``data.tasks`` holds a task (``general``, ``{task: mine, path: rows.jsonl}``,
            ``{task: mine, hub: owner/name}``, with ``max_train_samples`` if wished), or a list of such tasks, whose
            rows stand behind each other. Its training rows are used.
        ratio: r, in [0, 1); 0 is plain fine-tuning, byte for byte.
        max_samples: at most so many general rows in one task, from 1, a new draw for every task: they are the m of
            above. ``match``: as many as make r while no row of the task is seen twice in an epoch, n r / (1 − r).
            None: all rows; with a general set much larger than a task, its rows are then repeated very often.
        name: of its notices and its state.

    Raises:
        UserError: a value is out of its range, or ``data`` is no set of rows to train on.
    """

    def __init__(
        self,
        data: GeneralSpec,
        ratio: float = 0.5,
        max_samples: int | Literal["match"] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if not 0 <= ratio < 1:
            raise UserError(f"trainer.callbacks: DataMix.ratio must lie in [0, 1), got {ratio}.")
        if isinstance(max_samples, str) and max_samples != "match":
            raise UserError(
                f"trainer.callbacks: DataMix.max_samples must be a whole number, match or null, got {max_samples!r}."
            )
        if isinstance(max_samples, int) and max_samples < 1:
            raise UserError(
                f"trainer.callbacks: DataMix.max_samples must be at least 1, got {max_samples}; for none set ratio: 0."
            )
        self.data = data
        self.ratio = ratio
        self.max_samples = max_samples
        self.fingerprint: list[Any] = []
        self._general: Sequence[Row] = ()

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit" or not self.ratio or not isinstance(pl_module, ContinualLMM):
            return
        general = self._general_set(pl_module.data)
        self.fingerprint = general.fingerprint()
        self._general = general.rows()

    @override
    def select(
        self, trainer: Trainer, module: ContinualLMM, task: Task, rows: Sequence[Row]
    ) -> Sequence[Row]:
        if not self.ratio:
            return rows
        limit = self._limit(len(rows), len(self._general))
        own, general = mixed_counts(len(rows), min(limit, len(self._general)), self.ratio)
        turns = own / len(rows)
        often = f", each of them {turns:.1f} times" if own > len(rows) else ""
        more = (
            f", each of those {general / len(self._general):.1f} times"
            if general > len(self._general)
            else ""
        )
        module.sequence.report_notice(
            f"{self.name}: {task.name} trains on {own} rows of its own{often}, and {general} general ones{more}"
        )
        return self._mixed(rows, self._general, module.hparams["seed"], task)

    @override
    def foresee_rows(self, data: TaskSequenceDataModule, task: Task, rows: Sequence[Row]) -> Sequence[Row]:
        if not self.ratio:
            return rows
        general = self._general or self._general_set(data).rows()
        return self._mixed(rows, general, data.seed, task)

    def _mixed(self, rows: Sequence[Row], general: Sequence[Row], seed: int, task: Task) -> Sequence[Row]:
        limit = self._limit(len(rows), len(general))
        return mix(rows, general, self.ratio, limit, seed, task.name, self.name)

    def _general_set(self, data: TaskSequenceDataModule) -> GeneralSet:
        return GeneralSet(self.data, "trainer.callbacks: DataMix.data", data.settings)

    def _limit(self, own: int, general: int) -> int:
        if self.max_samples == "match":
            return max(1, round(own * self.ratio / (1 - self.ratio)))
        return general if self.max_samples is None else int(self.max_samples)
