"""Loads every task of a config by itself, so that one that is broken hides no other."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.data.drop_bad_rows import DropBadRows
from lmmcl.data.row import Row
from lmmcl.data.task import Part, Task
from lmmcl.errors import UserError
from lmmcl.preflight.finding import Finding, Level
from lmmcl.scorers import exact_match

log = logging.getLogger(__name__)


class _Nothing:
    """A source without rows."""

    def split(self, name: Part) -> Sequence[Row]:
        return ()

    def fingerprint(self) -> str:
        return ""


_STAND_IN = Task("preflight", _Nothing(), exact_match)
"""Fills the place of a target while a held-out task is loaded."""


def load_tasks(arguments: Mapping[str, Any]) -> tuple[TaskSequenceDataModule | None, list[Finding]]:
    """Makes the data of a run of all tasks that load.

    Args:
        arguments: of `TaskSequenceDataModule`, as the YAML has them.

    Returns:
        The data, None where no target loads; and what is wrong: tasks that do not load, whatever they raise, and rows
        that break (a warning each where ``on_bad_row: drop`` leaves them out). Pictures are not looked at.
    """
    rest = {key: value for key, value in arguments.items() if key not in ("tasks", "held_out")}
    found: list[Finding] = []
    loaded: dict[str, list[Task]] = {"tasks": [], "held_out": []}
    for key, tasks in loaded.items():
        specs = arguments.get(key) or ()
        for spec in [specs] if isinstance(specs, str) else specs:
            try:
                one = {"tasks": [spec]} if key == "tasks" else {"tasks": [_STAND_IN], "held_out": [spec]}
                data = TaskSequenceDataModule(
                    **one, **{**rest, "on_bad_row": "drop", "micro_batch_size": None}
                )
            except UserError as error:
                found.append(Finding("failure", "tasks", _name(spec), str(error)))
                continue
            except Exception as error:
                log.debug("%s does not load", _name(spec), exc_info=True)
                said = " ".join(f"{type(error).__name__}: {error}".split())
                text = f"does not load ({said}); correct the task, or the code it names."
                found.append(Finding("failure", "tasks", _name(spec), text))
                continue
            made = [_undropped(task) for task in (data.tasks if key == "tasks" else data.held_out)]
            tasks += made
            found += _bad_rows(made, "warning" if rest.get("on_bad_row") == "drop" else "failure")
    try:
        # Each task is settled already, by where its data lie and how it is scored.
        settled: dict[str, Any] = {"root": None, "scoring": "robust", "on_bad_row": "error"}
        whole = TaskSequenceDataModule(loaded["tasks"], loaded["held_out"], **{**rest, **settled})
    except UserError as error:
        if loaded["tasks"] or not found:
            found.append(Finding("failure", "tasks", "", str(error)))
        return None, found
    whole.on_bad_row = rest.get("on_bad_row", "error")
    if not any(finding.check == "tasks" for finding in found):
        text = f"targets: {len(whole.tasks)}, held-out tasks: {len(whole.held_out)}; all load"
        found.append(Finding("ok", "tasks", "", text))
    return whole, found


def _undropped(task: Task) -> Task:
    """A task with the rows that dropping would decode all pictures to find: preflight looks at pictures itself."""
    return replace(task, source=task.source.source) if isinstance(task.source, DropBadRows) else task


def _name(spec: Any) -> str:
    return str(spec.get("task", "")) if isinstance(spec, Mapping) else str(getattr(spec, "name", spec))


def _bad_rows(tasks: Sequence[Task], level: Level) -> Iterator[Finding]:
    """What is wrong with every row that the sources of some tasks left out."""
    for task in tasks:
        for row in getattr(task.source, "bad_rows", ()):
            yield Finding(level, "rows", task.name, f"{row.file}, row {row.row}: {row.reason}")
