"""The tasks of a run as its YAML lists them: targets, and what is only measured."""

from collections.abc import Sequence
from dataclasses import replace

from lmmcl.data.parse import TaskSpec, parse_task
from lmmcl.data.task import Task
from lmmcl.data.task_settings import TaskSettings
from lmmcl.errors import UserError

MOST = 99
"""Tasks of a sequence: the folders of its stages sort by two digits."""


def targets(specs: Sequence[TaskSpec], settings: TaskSettings) -> list[Task]:
    """The targets in their order.

    Args:
        specs: as the YAML lists them.
        settings: of the run.

    Raises:
        UserError: there is none, or one stands there twice or has no such form.
    """
    if isinstance(specs, str) or not specs:
        raise UserError(
            f"data.tasks must list at least one task, got {specs!r}; write for example tasks: [count]."
        )
    if len(specs) > MOST:
        raise UserError(
            f"data.tasks must list at most {MOST} tasks, got {len(specs)}; go on in a second run."
        )
    tasks = [parse_task(spec, key="data.tasks", settings=settings) for spec in specs]
    names = [task.name for task in tasks]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"data.tasks: every task must be named once, got {name} {names.count(name)} times; "
                "for more training give it more epochs."
            )
    return tasks


def held_out(specs: Sequence[TaskSpec], beside: Sequence[Task], settings: TaskSettings) -> list[Task]:
    """The held-out tasks in their order; one named like another, but with files of its own, is called by both names.

    Args:
        specs: as the YAML lists them.
        beside: the targets.
        settings: of the run.

    Raises:
        UserError: one is a target, or stands there twice or has no such form.
    """
    if isinstance(specs, str):
        raise UserError(f"data.held_out must be a list, got {specs!r}; write held_out: [{specs}].")
    known = {task.name: task for task in beside}
    tasks: list[Task] = []
    for spec in specs:
        task = parse_task(spec, key="data.held_out", held_out=True, settings=settings)
        twin = known.get(task.name)
        stem = getattr(task.source, "stem", None)
        if twin is not None and stem and task.source.fingerprint() != twin.source.fingerprint():
            task = replace(task, name=f"{task.name}-{stem}")
            twin = known.get(task.name)
        if twin is not None:
            held = any(task.name == other.name for other in tasks)
            raise UserError(
                f"data.held_out: {task.name} stands there twice; remove one."
                if held
                else f"data.held_out: {task.name} is a target, and those are always measured; remove it here."
            )
        known[task.name] = task
        tasks.append(task)
    return tasks
