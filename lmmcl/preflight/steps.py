"""Steps and epochs of every task, and how many answers will be generated."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.foreseen import foresee
from lmmcl.mitigation import Mitigation
from lmmcl.preflight.finding import Finding


def measured_rows(data: TaskSequenceDataModule, task: Task) -> int:
    """How many rows a task is measured on; makes none of them.

    Raises:
        UserError: the task has no rows for the test.
    """
    return min(len(task.source.split("test")), data.max_eval_samples or sys.maxsize)


def check_steps(
    data: TaskSequenceDataModule, world: int, mitigations: Sequence[Mitigation] = ()
) -> Iterator[Finding]:
    """One line for each target, one for the evaluation; a failure for a task without rows or with too few for a step.

    Args:
        data: the tasks.
        world: number of processes, from 1.
        mitigations: of the run, which may choose other rows.
    """
    total = 0
    for index, task in enumerate(data.tasks):
        try:
            ahead = foresee(data, index, mitigations)
            forwards = data.steps.forwards(task, world, ahead.joined)
        except UserError as error:
            yield Finding("failure", "steps", task.name, str(error))
            continue
        total += ahead.steps
        epochs = f"{task.epochs} epoch{'s' if task.epochs > 1 else ''}"
        each = f", {forwards} forwards each" if forwards > 1 else ""
        if data.layout.tokens is not None:
            each = f", in forwards of {data.layout.tokens:,} tokens"
        mixed = f" of {ahead.own:,}, mixed" if len(ahead.rows) != ahead.own else ""
        joining = f" and {ahead.joining:,} that join" if ahead.joining else ""
        text = (
            f"{len(ahead.rows):,} rows{mixed}, {epochs}: {ahead.steps:,} steps of {ahead.batch_size} "
            f"samples{joining}{each}"
        )
        yield Finding("ok", "steps", task.name, text)
    answers = 0
    for task in (*data.tasks, *data.held_out):
        try:
            answers += measured_rows(data, task)
        except UserError as error:
            yield Finding("failure", "steps", task.name, str(error))
    stages = len(data.tasks) + 1
    text = f"{total:,} steps in all; {answers:,} answers measured {stages} times: {stages * answers:,}"
    yield Finding("ok", "steps", "", text)
