"""The tasks of a sequence, in order, and what is measured beside them: Lightning's view of the data."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader
from typing_extensions import override

from lmmcl.data import sequence_tasks
from lmmcl.data.bad_row import BadRow, OnBadRow
from lmmcl.data.batches.collate import Collator, OnTooLong
from lmmcl.data.batches.joined import JoinedRows
from lmmcl.data.batches.loader import TaskLoader, WindowDataset
from lmmcl.data.batches.micro_batches import Layout
from lmmcl.data.batches.order import subset
from lmmcl.data.drop_bad_rows import DropBadRows
from lmmcl.data.epoch import Epoch, KeptLengths
from lmmcl.data.feature_cache import check_feature_cache
from lmmcl.data.parse import TaskSpec
from lmmcl.data.row import Row
from lmmcl.data.step_sizes import StepSizes, check_least
from lmmcl.data.task import Part, Task
from lmmcl.data.task_fingerprint import task_fingerprint
from lmmcl.data.task_settings import Scoring, TaskSettings
from lmmcl.data_parallel import share
from lmmcl.errors import UserError


class TaskSequenceDataModule(LightningDataModule):
    """The ordered tasks of a run and the held-out tasks that it measures.

    The batch size counts samples per optimizer step over all processes, so a run takes the same steps on any
    number of them: which rows a step sees follows from (seed, task, epoch) alone.

    Args:
        tasks: the targets in the order of training. Each is a name (``count``), a name with overrides
            (``{task: count, lr: 1e-4, epochs: 2}``), files (``{task: mine, path: rows.jsonl, scorer:
            letter}``), or, from Python, a `Task`. Targets are always measured.
        held_out: tasks that are only measured, in the same forms. One named like a target but with other
            files is called by its name and file (``mine-regression``).
        batch_size: samples per optimizer step over all processes, from 1.
        micro_batch_size: samples per forward on one process, from 1 to ``batch_size``; the gradients of a
            step are accumulated over as many forwards as it takes. None: all of a process's samples in one.
        micro_batch_tokens: instead, tokens per forward on one process, from 1, padding and pictures included: short
            samples fill the device, and long ones fit. A longer sample has a forward for itself and is told of.
        packing: lay the samples of a forward one after the other instead of padding each. Before training it is proven
            that the model reads them as it does apart.
        seed: seed of the order of training and of the draw by ``max_train_samples``, from 0.
        max_eval_samples: measure on so many rows per task, from 1: a fixed draw, stratified by ``category``
            where rows have one, the same for every seed, so that runs can be compared. None: on all.
        num_workers: processes that prepare batches, from 0, each two steps ahead; they start anew with every epoch. 0
            prepares them in the main process, while a GPU still computes the step before.
        drop_last: leave out the short last step of an epoch.
        group_by_length: put rows of like length into one step, which saves padding.
        on_too_long: what happens to a training sample longer than the model allows: ``error`` or ``drop``
            (counted). Nothing is ever truncated.
        root: folder that holds local copies of hub data, each in ``<root>/<owner>/<name>``; None: the hub.
        on_bad_row: what happens to a row of files or hub data that breaks (bad JSON, a missing or unreadable picture,
            an empty answer, pictures without a place): ``error``, or ``drop``, which leaves it out before training and
            lists it in `bad_rows`.
        scoring: ``robust``, or ``lmms-eval``, which gives the scores that lmms-eval gives.
        cache_features: keep what vision tower and projector make of pictures while no task trains them. A folder, which
            other runs may share, or ``true`` for one in the user's cache folder. What is measured after every stage is
            opened once, and its answers stay the same, bit for bit. Rows that training meets twice or more pass the
            tower once, one at a time: weights differ by rounding from those without. It pays where the tower takes
            longer than reading: a picture of 729 tokens takes 5 MB with a language model of width 3,584 in bf16.
        cache_features_gb: most gigabytes of that folder, above 0; what was not used for longest makes room, features of
            training rows before those of what is measured.
        image_roots: folders that rows may name pictures in beside ``image_folder``, or that of their file.

    Raises:
        UserError: no task, a task twice, an unknown one, or a number out of its range, with the YAML key.
    """

    def __init__(
        self,
        tasks: Sequence[TaskSpec],
        held_out: Sequence[TaskSpec] = (),
        batch_size: int = 32,
        micro_batch_size: int | None = None,
        micro_batch_tokens: int | None = None,
        packing: bool = False,
        seed: int = 0,
        max_eval_samples: int | None = None,
        num_workers: int = 0,
        drop_last: bool = False,
        group_by_length: bool = True,
        on_too_long: OnTooLong = "error",
        root: str | None = None,
        on_bad_row: OnBadRow = "error",
        scoring: Scoring = "robust",
        cache_features: bool | str = False,
        cache_features_gb: float = 100.0,
        image_roots: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.steps = StepSizes(batch_size, micro_batch_size, micro_batch_tokens, drop_last)
        check_least("seed", seed, 0)
        check_least("max_eval_samples", max_eval_samples, 1)
        check_least("num_workers", num_workers, 0)
        if on_too_long not in ("error", "drop"):
            raise UserError(f"data.on_too_long must be 'error' or 'drop', got {on_too_long!r}.")
        self.layout = Layout(micro_batch_tokens, packing)
        self.seed = seed
        self.max_eval_samples = max_eval_samples
        self.num_workers = num_workers
        self.group_by_length = group_by_length
        self.on_too_long = on_too_long
        self.on_bad_row = on_bad_row
        self.scoring = scoring
        self.cache_features = check_feature_cache(cache_features, cache_features_gb)
        self.cache_features_gb = cache_features_gb
        self.settings = TaskSettings(root, on_bad_row, scoring, image_roots)
        self.tasks = sequence_tasks.targets(tasks, self.settings)
        self.held_out = sequence_tasks.held_out(held_out, self.tasks, self.settings)
        self.steps.check(self.tasks)
        self._collator: Collator | None = None
        self._serving: Epoch | None = None
        self._lengths = KeptLengths()
        self._drawn: dict[tuple[str, Part, int], list[int]] = {}

    @property
    def collator(self) -> Collator:
        """Makes batches of rows; there is one once a processor is attached."""
        if self._collator is None:
            raise RuntimeError("attach(processor, max_length) must come before the collator is used")
        return self._collator

    def attach(self, processor: Any, max_length: int | None, always_image: bool = True) -> None:
        """Takes the checkpoint's processor.

        Args:
            processor: with a fast tokenizer and a chat template.
            max_length: most tokens of a sample, pictures included; None: any number.
            always_image: see `Collator`.
        """
        self._collator = Collator(processor, max_length, self.on_too_long, always_image)

    def train_count(self, task_index: int) -> int:
        """How many rows a task trains on, before any mitigation changes them; makes none of them."""
        task = self.tasks[task_index]
        rows = len(_part(task, "train"))
        return rows if task.max_train_samples is None else min(rows, task.max_train_samples)

    def train_rows(self, task_index: int) -> Sequence[Row]:
        """The rows a task trains on, before any mitigation changes them."""
        task = self.tasks[task_index]
        rows = _part(task, "train")
        if task.max_train_samples is None or task.max_train_samples >= len(rows):
            return rows
        chosen = subset([0] * len(rows), task.max_train_samples, self.seed, task.name, "max_train_samples")
        return [rows[position] for position in chosen]

    def begin(
        self, task_index: int, rows: Sequence[Row], epoch: int, step: int, joined: Sequence[JoinedRows] = ()
    ) -> None:
        """Says what `train_dataloader` serves next.

        Args:
            task_index: position of the task, from 0.
            rows: its rows, as mitigations left them.
            epoch: epoch inside the task, from 0.
            step: first optimizer step of the epoch to serve, from 0.
            joined: the sets whose rows join every step.
        """
        self._serving = Epoch(task_index, rows, epoch, step, joined)

    @override
    def train_dataloader(self) -> TaskLoader:
        """The loader of the epoch that `begin` named, for this process."""
        trainer = self.trainer
        return self.loader(*(share() if trainer is not None else (0, 1)))

    @override
    def val_dataloader(self) -> DataLoader[int]:
        """One placeholder, which ``Trainer.validate`` asks for; what is measured are `eval_rows`."""
        return DataLoader(range(1))  # type: ignore[arg-type]  # a sequence is a dataset

    def loader(self, rank: int, world: int) -> TaskLoader:
        """The loader of the epoch that `begin` named, for one process out of ``world``."""
        if self._serving is None:
            raise RuntimeError("begin(task_index, rows, epoch, step) must come before the loader is made")
        epoch = self._serving
        task = self.tasks[epoch.task_index]
        lengths = self._lengths.of(epoch.rows) if self.group_by_length else None
        rows, plan = epoch.windows(task, self.steps, self.seed, lengths)
        each = self.steps.forwards(task, world, epoch.joined)
        return TaskLoader(
            WindowDataset(rows, plan, self.collator, rank, world, each, epoch.joined, self.layout),
            epoch.step,
            self.num_workers,
        )

    def task(self, name: str) -> Task:
        """A target or held-out task by its name."""
        return next(task for task in (*self.tasks, *self.held_out) if task.name == name)

    def eval_rows(self, task: Task, part: Part = "test", limit: int | None = None) -> Sequence[Row]:
        """The rows a task is measured on.

        Args:
            task: a target or held-out task.
            part: ``test`` for what is reported, ``dev`` for what chooses anything.
            limit: at most so many rows; None: ``max_eval_samples``.

        Returns:
            A fixed draw in the order of the source, stratified by ``meta["category"]`` where rows have one.
            It does not depend on ``seed``: runs with different seeds are measured on the same rows.
        """
        rows = _part(task, part)
        limit = self.max_eval_samples if limit is None else limit
        if limit is None or limit >= len(rows):
            return rows
        key = (task.name, part, limit)
        if key not in self._drawn:  # the categories stand in the rows, which are made for it, all of them
            strata = [str(row.meta.get("category")) for row in rows]
            self._drawn[key] = subset(strata, limit, task.name, part, "eval")
        return [rows[position] for position in self._drawn[key]]

    @property
    def bad_rows(self) -> list[BadRow]:
        """What ``on_bad_row: drop`` left out of all that this run trains on and measures, task by task.

        The first call looks through all of these rows, which is done before training anyway.
        """
        if self.on_bad_row == "error":
            return []
        for task in self.tasks:
            _part(task, "train")
        found: list[BadRow] = []
        for task in (*self.tasks, *self.held_out):
            _part(task, "test")
            found += getattr(task.source, "bad_rows", ())
        return found

    def fingerprint(self) -> dict[str, Any]:
        """Everything here that changes results, as plain values; a resume compares it.

        What says how samples stand in forwards, ``cache_features`` and ``num_workers`` are left out: they change
        rounding at most. So is ``root``: the rows themselves are compared, and with ``on_bad_row: drop`` which of them
        were dropped for their pictures: one that was repaired since may have the size that it had.
        """
        dropped = self._dropped() if self.on_bad_row == "drop" else {}
        return {
            "batch_size": self.steps.batch_size,
            "seed": self.seed,
            "max_eval_samples": self.max_eval_samples,
            "drop_last": self.steps.drop_last,
            "group_by_length": self.group_by_length,
            "on_too_long": self.on_too_long,
            "on_bad_row": self.on_bad_row,
            "scoring": self.scoring,
            "tasks": [task_fingerprint(task) for task in self.tasks],
            "held_out": [task_fingerprint(task) for task in self.held_out],
            **({"dropped": dropped} if dropped else {}),
        }

    def _dropped(self) -> dict[str, list[int]]:
        """By task and part, places of the rows that are left out for their pictures, of what is trained or reported."""
        parts: list[tuple[Task, Part]] = [(task, "train") for task in self.tasks]
        parts += [(task, "test") for task in (*self.tasks, *self.held_out)]
        found = {
            f"{task.name} {part}": task.source.left_out(part)
            for task, part in parts
            if isinstance(task.source, DropBadRows)
        }
        return {name: places for name, places in found.items() if places}


def _part(task: Task, part: Part) -> Sequence[Row]:
    rows = task.source.split(part)
    if not rows:
        raise UserError(
            f"data.tasks: {task.name} must have rows for {part}, its source gives none; add some."
        )
    return rows
