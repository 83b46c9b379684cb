"""What a model is asked besides a run: the YAML of ``--data``, of ``lmmcl audit`` and ``lmmcl merge``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lmmcl.data import sequence_tasks
from lmmcl.data.batches.order import subset
from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.data.nearest import nearest
from lmmcl.data.parse import parse_task
from lmmcl.data.row import Row
from lmmcl.data.task import Part, Task
from lmmcl.data.task_settings import TaskSettings
from lmmcl.errors import UserError

_CONFIG = ("model", "data", "trainer", "run", "seed", "ckpt_path")
_DATA = tuple(name for name in inspect.signature(TaskSequenceDataModule).parameters)
_KEYS = ("targets", *_DATA)
_USED = ("targets", "tasks", "held_out", "max_eval_samples", "root", "on_bad_row", "scoring", "image_roots")


@dataclass(frozen=True)
class Questions:
    """What a model is asked.

    Args:
        targets: what the model was tuned for: gains are expected; may be empty.
        held_out: what must not break.
        data: draws the rows as a run does.
    """

    targets: Sequence[Task]
    held_out: Sequence[Task]
    data: TaskSequenceDataModule

    @property
    def tasks(self) -> list[Task]:
        """All of them, targets first."""
        return [*self.targets, *self.held_out]

    @property
    def max_eval_samples(self) -> int | None:
        """Most rows of a task."""
        return self.data.max_eval_samples

    def rows(self, task: Task, part: Part) -> Sequence[Row]:
        """The rows a task is measured on, as a run with the same data would draw them.

        Raises:
            UserError: the task has none in that part.
        """
        return self.data.eval_rows(task, part)

    def calibration(self, count: int, seed: int, purpose: str) -> list[Row]:
        """A fixed draw of rows of the targets that may choose weights, with their answers; each target has its share.

        Of a target that has rows for ``train`` they are some of those, of one that is only measured rows for ``dev``.

        Args:
            count: how many rows; all where there are no more.
            seed: of the draw.
            purpose: what for, as in `lmmcl.probing.calibration.draw_rows`, which draws the same of a single target.

        Raises:
            UserError: no target is listed, or one has no rows of either kind.
        """
        if not self.targets:
            raise UserError(
                "--data: targets must list at least one task, what TUNED was tuned for; write for example targets: "
                "[{task: mine, path: rows.jsonl}]."
            )
        rows = [_look_at(self.data, index) for index in range(len(self.targets))]
        strata = [index for index, its in enumerate(rows) for _ in its]
        places = [(its, place) for its in rows for place in range(len(its))]
        name = "+".join(task.name for task in self.targets)
        chosen = subset(strata, count, seed, name, purpose)
        return [its[place] for its, place in (places[position] for position in chosen)]

    def without_dev(self) -> list[str]:
        """Tasks that have no rows to choose by."""
        silent = []
        for task in self.tasks:
            try:
                self.rows(task, "dev")
            except UserError:
                silent.append(task.name)
        return silent


def read_questions(path: Path, held_out_needed: bool = True) -> Questions:
    """Reads the YAML.

    ``targets`` (or ``tasks``) and ``held_out`` list tasks in the forms of ``lmmcl fit``. What stands under ``tasks`` is
    split as training splits it: rows that a run with the same YAML trains on are left out here. What stands under
    ``targets`` is only measured: rows without parts of their own are ``dev`` (0.1) and ``test`` (0.9). Beside them
    ``max_eval_samples``, ``scoring``, ``root`` and ``on_bad_row``. A whole config of ``lmmcl fit`` will do, too; its
    keys of training are passed over.

    Args:
        path: of the YAML.
        held_out_needed: refuse a file that lists no held-out task.

    Raises:
        UserError: there is no such file, or it says what is not known, with the nearest known word.
    """
    try:
        given = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(
            f"--data: there is no file {path} ({error.strerror}); give a YAML of tasks."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--data: {path} is no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(given, Mapping):
        raise UserError(f"--data: {path} must hold keys, such as held_out: [chart, scene], got {given!r}.")
    if "data" in given:
        _refuse_unknown(given, _CONFIG, path, "")
        given = given["data"]
        if not isinstance(given, Mapping):
            raise UserError(f"--data: {path}: data must be a mapping of keys, got {given!r}.")
    _refuse_unknown(given, _KEYS, path, "data.")
    if given.get("targets") and given.get("tasks"):
        raise UserError(f"--data: {path} must list its targets once, got targets and tasks; remove one.")
    for key in ("targets", "tasks", "held_out"):
        if not isinstance(given.get(key) or [], list):
            raise UserError(
                f"--data: {path}: {key} must be a list, got {given[key]!r}; write [{given[key]}]."
            )
    settings = TaskSettings(
        given.get("root"),
        given.get("on_bad_row", "error"),
        given.get("scoring", "robust"),
        given.get("image_roots") or (),
    )
    measured = [
        parse_task(spec, key="targets", held_out=True, settings=settings)
        for spec in given.get("targets") or ()
    ]
    targets = sequence_tasks.targets(given["tasks"], settings) if given.get("tasks") else _once(measured)
    held_out = sequence_tasks.held_out(given.get("held_out") or [], targets, settings)
    if not held_out and held_out_needed:
        raise UserError(
            f"--data: {path}: held_out must list at least one task, what must not break; write for example "
            "held_out: [chart, {task: regression, path: regression.jsonl}]."
        )
    # One list: the roles are ours, and a data module has none without a target.
    data = TaskSequenceDataModule(
        [*targets, *held_out],
        max_eval_samples=_limit(given, path),
        root=given.get("root"),
        on_bad_row=settings.on_bad_row,
        scoring=settings.scoring,
        image_roots=[str(root) for root in settings.image_roots],
    )
    return Questions(targets, held_out, data)


def _look_at(data: TaskSequenceDataModule, index: int) -> Sequence[Row]:
    """Rows of a target that may choose weights."""
    try:
        return data.train_rows(index)
    except UserError:  # one that is only measured
        return data.eval_rows(data.tasks[index], "dev")


def _refuse_unknown(given: Mapping[Any, Any], known: Sequence[str], path: Path, prefix: str) -> None:
    for key in given:
        if key not in known:
            hint = nearest(str(key), known)
            kept = _USED if prefix else (*_USED, "data")
            raise UserError(f"--data: {path} has the unknown key {key!r}; {hint}Keys are {', '.join(kept)}.")


def _limit(given: Mapping[str, Any], path: Path) -> int | None:
    limit = given.get("max_eval_samples")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise UserError(f"--data: {path}: max_eval_samples must be a whole number from 1, got {limit!r}.")
    return limit


def _once(tasks: list[Task]) -> list[Task]:
    names = [task.name for task in tasks]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"targets: every task must be named once, got {name} {names.count(name)} times.")
    return tasks
