"""Scores on ``dev`` rows with the weights as they stand: what a mitigation chooses by, and what is never reported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lmmcl.errors import UserError
from lmmcl.evaluation.evaluator import EvaluationStopped, TaskResult, evaluate

if TYPE_CHECKING:
    from lmmcl.data.datamodule import TaskSequenceDataModule
    from lmmcl.data.task import Task
    from lmmcl.model import ContinualLMM


def dev_scores(
    module: ContinualLMM, tasks: Sequence[Task], *, batch_size: int = 32, samples: int | None = None
) -> dict[str, TaskResult]:
    """Answers and scores the ``dev`` rows of some tasks as the matrix does its ``test`` rows; writes nothing.

    Collective: call it on every process, between two optimizer steps; the result is the same on all of them. Asked to
    stop (SIGTERM), it ends the process as a measurement of a stage does: a resume does again what was pending. Inside
    a task it returns nothing instead, and the driver saves the step before it ends.

    Args:
        module: whose fit is running.
        tasks: targets or held-out tasks of its data.
        batch_size: prompts answered at once on one process.
        samples: at most so many rows of each task, the same at every call; None: ``data.max_eval_samples``.

    Returns:
        by task name; empty if it was stopped inside a task.

    Raises:
        UserError: a task has no ``dev`` rows, or one that cannot be answered or scored.
    """
    found = evaluate(
        module,
        tasks,
        {task.name: module.data.eval_rows(task, "dev", samples) for task in tasks},
        module.data.collator.prompts,
        batch_size=batch_size,
        stop=lambda: module.sequence.stop.requested,
        progress=lambda task, done, total: module.sequence.report_progress(f"{task} (dev)", done, total),
    )
    try:
        return {result.task: result for result in found}
    except EvaluationStopped:
        module.sequence.obey_stop()
        return {}


def dev_tasks(data: TaskSequenceDataModule, names: Sequence[str] | None, owner: str) -> list[Task]:
    """The tasks whose ``dev`` rows something is chosen by.

    Args:
        data: of the run.
        names: of targets or held-out tasks, each with ``dev`` rows; None: all held-out tasks that have some.
        owner: class and argument that the names come from, for messages: ``WiSEFT.held_out``.

    Raises:
        UserError: a name is unknown or its task has no ``dev`` rows; or there is no task to choose by.
    """
    if names is not None:
        known = {task.name: task for task in (*data.tasks, *data.held_out)}
        for name in names:
            if name not in known:
                raise UserError(
                    f"trainer.callbacks: {owner} must name tasks of data.tasks or data.held_out, got {name!r} beside "
                    f"{', '.join(known)}."
                )
            if not has_dev(known[name]):
                raise UserError(
                    f"trainer.callbacks: {owner}: {name} has no rows for dev to choose by; add some or leave it out."
                )
        chosen = [known[name] for name in names]
    else:
        chosen = [task for task in data.held_out if has_dev(task)]
    if not chosen:
        raise UserError(
            f"trainer.callbacks: {owner} needs at least one task with rows for dev to choose by; give data.held_out a "
            "task that has some, or name tasks."
        )
    return chosen


def require_dev(tasks: Sequence[Task], owner: str) -> None:
    """Raises UserError, naming the argument and the task, if one of the tasks has no ``dev`` rows."""
    for task in tasks:
        if not has_dev(task):
            raise UserError(
                f"trainer.callbacks: {owner}: {task.name} has no rows for dev to choose by; add some."
            )


def tell_without_dev(module: ContinualLMM, owner: str) -> None:
    """Tells which held-out tasks a choice leaves out because they have no ``dev`` rows, if there are any."""
    silent = [task.name for task in module.data.held_out if not has_dev(task)]
    if silent:
        module.sequence.report_notice(
            f"{owner} chooses without {', '.join(silent)}, which have no rows for dev."
        )


def has_dev(task: Task) -> bool:
    """Whether a task has ``dev`` rows; a small file may have been split without any."""
    try:
        return len(task.source.split("dev")) > 0
    except UserError:
        return False
