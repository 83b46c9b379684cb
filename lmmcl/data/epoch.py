"""One epoch of a task as it is served: its rows, with those that join them, and the windows that they are met in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from lmmcl.data.batches.joined import JoinedRows, RowsOfStep, join_windows
from lmmcl.data.batches.mixing import MixedRows, mixed_windows
from lmmcl.data.batches.order import windows
from lmmcl.data.batches.row_length import row_lengths
from lmmcl.data.row import Row
from lmmcl.data.step_sizes import StepSizes
from lmmcl.data.task import Task


@dataclass(frozen=True)
class Epoch:
    """What `TaskSequenceDataModule.begin` names.

    Args:
        task_index: position of the task, from 0.
        rows: its rows, as mitigations left them.
        number: epoch inside the task, from 0.
        step: first optimizer step of the epoch to serve, from 0.
        joined: the sets whose rows join every step.
    """

    task_index: int
    rows: Sequence[Row]
    number: int
    step: int
    joined: Sequence[JoinedRows]

    def windows(
        self, task: Task, sizes: StepSizes, seed: int, lengths: Sequence[int] | None
    ) -> tuple[Sequence[Row], Sequence[Sequence[int]]]:
        """The rows of the epoch and, for every optimizer step, the positions of its rows.

        Args:
            task: whose epoch it is.
            sizes: of its steps.
            seed: of the run.
            lengths: of the rows, which then are grouped by it; None: a plain shuffle.
        """
        grouped, key = lengths is not None, (seed, self.task_index, self.number)
        own = [0] * len(self.rows) if lengths is None else lengths
        options = {"drop_last": sizes.drop_last, "group_by_length": grouped}
        steps = sizes.per_epoch(task, len(self.rows))
        if isinstance(self.rows, MixedRows):
            plan = mixed_windows(self.rows, own, sizes.of(task), *key, **options)
        else:
            plan = windows(own, sizes.of(task), *key, **options)
        if not self.joined:
            return self.rows, plan
        rows = RowsOfStep(self.rows, self.joined)
        measured = [*own, *chain(*(row_lengths(one.rows) for one in self.joined))] if grouped else None
        return rows, join_windows(plan, rows, measured, self.number * steps, seed, self.task_index)


class KeptLengths:
    """Lengths of the rows that were measured last, which the next epoch of a task asks for again."""

    def __init__(self) -> None:
        self._measured: tuple[Sequence[Row], Sequence[int]] | None = None

    def of(self, rows: Sequence[Row]) -> Sequence[int]:
        """The length of each row, see `row_lengths`."""
        if isinstance(rows, list):  # a mitigation's, which may hold others the next time
            return row_lengths(rows)
        if self._measured is None or self._measured[0] is not rows:
            self._measured = rows, row_lengths(rows)
        return self._measured[1]
