"""What a task will train on once mitigations have chosen its rows, known before there is a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from lmmcl.data.batches.joined import JoinedRows
from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.data.row import Row
from lmmcl.data.row_view import Later, RowView
from lmmcl.mitigation import Mitigation


@dataclass(frozen=True)
class Foreseen:
    """What a task will train on.

    Args:
        own: rows of the task.
        rows: of an epoch, as mitigations will leave them.
        joined: the sets of which rows will join every step.
        batch_size: rows of a step, over all processes, without those that join.
        steps: of the task, over its epochs.
    """

    own: int
    rows: Sequence[Row]
    joined: Sequence[JoinedRows]
    batch_size: int
    steps: int

    @property
    def joining(self) -> int:
        """Rows that join a step, over all processes."""
        return sum(one.per_step for one in self.joined)

    @property
    def samples(self) -> int:
        """Samples of a step, over all processes."""
        return self.batch_size + self.joining


def foresee(data: TaskSequenceDataModule, index: int, mitigations: Sequence[Mitigation]) -> Foreseen:
    """What a task will train on; makes no row before it is looked at.

    Args:
        data: the tasks.
        index: position of the task, from 0.
        mitigations: of the run, in the order listed.

    Raises:
        UserError: the task or a set that a mitigation names has no rows, or there is not one step.
    """
    task = data.tasks[index]
    own = data.train_count(index)
    rows: Sequence[Row] = RowView(range(own), Later(partial(data.train_rows, index)))
    for mitigation in mitigations:
        rows = mitigation.foresee_rows(data, task, rows)
    joined = [one for mitigation in mitigations for one in mitigation.foresee_joined(data, task)]
    steps = data.steps.per_epoch(task, len(rows)) * task.epochs
    return Foreseen(own, rows, joined, data.steps.of(task), steps)
