"""Steps and epochs of every task, and how many answers will be generated."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.preflight.finding import Finding


def steps_of(data: TaskSequenceDataModule, index: int) -> int:
    """Optimizer steps of a task, before any mitigation chooses its rows.

    Raises:
        UserError: the task has no rows, or not one step.
    """
    return data.steps_per_epoch(trained_rows(data, index), index) * data.tasks[index].epochs


def trained_rows(data: TaskSequenceDataModule, index: int) -> int:
    """How many rows a task trains on; makes none of them.

    Raises:
        UserError: the task has no rows for training.
    """
    task = data.tasks[index]
    return min(len(task.source.split("train")), task.max_train_samples or sys.maxsize)


def measured_rows(data: TaskSequenceDataModule, task: Task) -> int:
    """How many rows a task is measured on; makes none of them.

    Raises:
        UserError: the task has no rows for the test.
    """
    return min(len(task.source.split("test")), data.max_eval_samples or sys.maxsize)


def check_steps(data: TaskSequenceDataModule, world: int) -> Iterator[Finding]:
    """One line for each target, one for the evaluation; a failure for a task without rows or with too few for a step.

    Args:
        data: the tasks.
        world: number of processes, from 1.
    """
    total = 0
    for index, task in enumerate(data.tasks):
        try:
            rows, steps = trained_rows(data, index), steps_of(data, index)
            forwards = data.accumulate(world, index)
        except UserError as error:
            yield Finding("failure", "steps", task.name, str(error))
            continue
        total += steps
        epochs = f"{task.epochs} epoch{'s' if task.epochs > 1 else ''}"
        each = f", {forwards} forwards each" if forwards > 1 else ""
        text = f"{rows:,} rows, {epochs}: {steps:,} steps of {data.task_batch_size(task)} samples{each}"
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
