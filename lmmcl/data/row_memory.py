"""The rows of finished tasks that a mitigation keeps for later: which ones, and the rows themselves."""

from collections.abc import Sequence
from copy import copy
from functools import partial
from typing import Any, Literal, get_args

from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.data.general_set import GeneralSet, GeneralSpec, named_row
from lmmcl.data.reservoir import equal_shares, reservoir, reservoir_draws, sample
from lmmcl.data.row import Row
from lmmcl.data.row_view import Later, RowView
from lmmcl.errors import UserError

Strategy = Literal["reservoir", "balanced"]
GENERAL = ""
"""Stands for the general set where a task's name would."""


class RowMemory:
    """Keeps some rows of every finished task, by their positions; what has left it never comes back.

    A share as size gives every row of the past the same chance: each task leaves that share of its rows, at least one,
    and all stay. A number as size is a buffer that is full once and stays as large: every new task takes the places of
    old rows, by reservoir sampling (each row of the past is in it with probability size / n) or so that all tasks have
    the same number. ``balanced`` with a share takes the same total as ``reservoir`` and divides it equally, as far as
    rows of old tasks are still there.

    Args:
        buffer: below 1 the share of past rows that is kept; from 1 a number of rows; 0 keeps none.
        strategy: ``reservoir`` or ``balanced``.
        begin_with: a general set that the buffer begins with, before the first task.
        begin_samples: a fixed draw of so many of its rows passes first, as though a task before the first; all of them
            stay where ``buffer`` is a share.
        owner: the mitigation, for errors.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(
        self,
        buffer: float,
        strategy: Strategy,
        begin_with: GeneralSpec | None,
        begin_samples: int | None,
        owner: str,
    ) -> None:
        where = f"trainer.callbacks: {owner}"
        if not buffer >= 0 or (buffer >= 1 and buffer != int(buffer)):
            raise UserError(
                f"{where}.buffer must be a share below 1 or a whole number of rows from 1 (0: none), got {buffer}."
            )
        if strategy not in get_args(Strategy):
            raise UserError(f"{where}.strategy must be reservoir or balanced, got {strategy!r}.")
        if (begin_with is None) != (begin_samples is None):
            raise UserError(
                f"{where}: begin_with (a general set) and begin_samples (how many of its rows) belong together, got "
                f"{begin_with!r} and {begin_samples!r}."
            )
        if begin_samples is not None and begin_samples < 1:
            raise UserError(f"{where}.begin_samples must be at least 1, got {begin_samples}.")
        self._buffer, self._strategy = buffer, strategy
        self._begin_with, self._begin_samples = begin_with, begin_samples
        self._key = f"{where}.begin_with"
        self._general: Sequence[Row] = ()
        self.kept: list[tuple[str, int]] = []
        self._passed: dict[str, int] = {}

    # What is kept

    @property
    def seen(self) -> int:
        """Rows that have passed."""
        return sum(self._passed.values())

    def add(self, task: str, count: int, *key: int | str) -> None:
        """Lets the rows of a task pass.

        Args:
            task: its name, or ``GENERAL``.
            count: its rows.
            key: what the draw depends on.
        """
        if not self._buffer:
            return
        seen, arriving = self.seen, [(task, place) for place in range(count)]
        self._passed[task] = count
        if self._strategy == "balanced":
            self._balance(arriving, *key, task)
        elif self._buffer < 1:
            self.kept += sample(arriving, self._left_by(task, count), *key, task)
        else:
            draws = reservoir_draws(seen, count, *key, task)
            self.kept = reservoir(self.kept, seen, arriving, int(self._buffer), draws)
        order = list(self._passed)
        self.kept.sort(key=lambda item: (order.index(item[0]), item[1]))

    def _balance(self, arriving: Sequence[tuple[str, int]], *key: int | str) -> None:
        size = int(self._buffer)
        if self._buffer < 1:
            size = sum(self._left_by(task, count) for task, count in self._passed.items())
        groups = {task: [item for item in self.kept if item[0] == task] for task in self._passed}
        groups[arriving[0][0]] = list(arriving)
        shares = equal_shares([len(group) for group in groups.values()], size)
        self.kept = []
        for (task, group), share in zip(groups.items(), shares, strict=True):
            self.kept += sample(group, share, *key, task)

    def _left_by(self, task: str, count: int) -> int:
        return count if task == GENERAL else max(1, round(count * self._buffer))

    def state(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "passed": [[task, count] for task, count in self._passed.items()],
            "kept": [[task, [place for name, place in self.kept if name == task]] for task in self._passed],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave."""
        self._passed = dict(state["passed"])
        self.kept = [(task, place) for task, places in state["kept"] for place in places]

    # The rows

    def find_general(self, data: TaskSequenceDataModule) -> list[Any]:
        """Looks up the general set, if there is one, before the run begins.

        Returns:
            its fingerprint.
        """
        if self._begin_with is None or self._begin_samples is None or not self._buffer:
            return []
        general = GeneralSet(self._begin_with, self._key, data.settings)
        rows = general.rows()
        chosen = sample(range(len(rows)), self._begin_samples, "begin_with")
        self._general = RowView(chosen, rows.__getitem__)
        return general.fingerprint()

    def end_stage(self, data: TaskSequenceDataModule, stage: int, *key: int | str) -> None:
        """Lets the rows of a finished stage pass: those of its task, or, of the base model, the general set.

        Args:
            data: with the tasks.
            stage: 0 for the base model.
            key: what draws depend on.
        """
        if stage:
            self.add(data.tasks[stage - 1].name, data.train_count(stage - 1), *key)
        elif self._general:
            self.add(GENERAL, len(self._general), *key)

    def foreseen(self, data: TaskSequenceDataModule, task: str, *key: int | str) -> Sequence[Row]:
        """The rows that it will hold when a task begins, made when they are asked for; it stays as it is.

        Args:
            data: with the tasks.
            task: name of the task.
            key: what draws depend on, as for `end_stage`.
        """
        ahead = copy(self)
        ahead.kept, ahead._passed = [], {}
        if not ahead._general:
            ahead.find_general(data)
        names = [one.name for one in data.tasks]
        for stage in range(1 + names.index(task)):
            ahead.end_stage(data, stage, *key)
        return RowView(range(len(ahead.kept)), Later(partial(ahead.rows, data)))

    def rows(
        self, data: TaskSequenceDataModule, kept: Sequence[tuple[str, int]] | None = None
    ) -> Sequence[Row]:
        """Kept rows, drawn again from their sources when they are asked for; ids begin with the task's name.

        Args:
            data: with the tasks.
            kept: some of ``self.kept``; None: all.
        """
        kept = self.kept if kept is None else kept
        indices = {task.name: index for index, task in enumerate(data.tasks)}
        sources = {
            task: self._general if task == GENERAL else data.train_rows(indices[task]) for task, _ in kept
        }
        return RowView(range(len(kept)), partial(_kept_row, sources, list(kept)))


def _kept_row(sources: dict[str, Sequence[Row]], kept: Sequence[tuple[str, int]], index: int) -> Row:
    task, place = kept[index]
    return sources[task][place] if task == GENERAL else named_row(task, sources[task], place)
