"""A set of rows beside the tasks of a sequence, written as tasks are: what is mixed in or kept from the beginning."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Any

from lmmcl.data.batches.order import draw
from lmmcl.data.parse import TaskSpec, parse_task
from lmmcl.data.row import Row
from lmmcl.data.row_view import RowView
from lmmcl.data.task import Task
from lmmcl.data.task_settings import TaskSettings
from lmmcl.errors import UserError

GeneralSpec = TaskSpec | list[TaskSpec]
_MEANINGLESS = ("epochs", "lr", "recipe", "batch_size")
"""What a task may say of its training, and a set beside the tasks may not."""


class GeneralSet:
    """The training rows of one or several tasks that are not trained for their own sake.

    Args:
        spec: one task as ``data.tasks`` holds them, or a list of them. Files need no parts: all rows are for training
            then. ``max_train_samples`` takes a fixed draw of one.
        key: YAML key named in errors.
        settings: of the run.

    Raises:
        UserError: no such task, one that stands there twice, one without training rows, or a key that a set beside the
            tasks cannot follow (``epochs``, ``lr``, ``recipe``, ``batch_size``).
    """

    def __init__(self, spec: GeneralSpec, key: str, settings: TaskSettings | None = None) -> None:
        specs: Sequence[TaskSpec] = spec if isinstance(spec, list) else [spec]
        if not specs:
            raise UserError(
                f"{key} must name at least one task, got []; write for example {key.split('.')[-1]}: general."
            )
        for one in specs:
            wrong = next((name for name in _MEANINGLESS if isinstance(one, dict) and name in one), None)
            if wrong is not None:
                raise UserError(
                    f"{key}: {wrong} belongs to a task of its own, got it for {one!r}; these rows follow the task they "
                    "join. Remove it."
                )
        self._key = key
        self.tasks: list[Task] = [
            parse_task(one, key=key, train_only=True, settings=settings) for one in specs
        ]
        names = [task.name for task in self.tasks]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"{key}: {twice} stands there {names.count(twice)} times; name it once.")

    def rows(self) -> Sequence[Row]:
        """All rows, task after task, made when they are asked for; ids begin with the task's name."""
        parts = [(task.name, self._rows_of(task)) for task in self.tasks]
        stops = list(accumulate(len(rows) for _, rows in parts))
        return RowView(range(stops[-1]), partial(_row_of, parts, stops))

    def _rows_of(self, task: Task) -> Sequence[Row]:
        try:
            rows = task.source.split("train")
        except UserError as error:
            raise UserError(f"{self._key}: {task.name} has no rows to train on: {error}") from error
        if not rows:
            raise UserError(
                f"{self._key}: {task.name} must have rows to train on, its source gives none; add some."
            )
        count = task.max_train_samples
        if count is None or count >= len(rows):
            return rows
        chosen = sorted(
            draw(len(rows), task.name, "max_train_samples").argsort(kind="stable")[:count].tolist()
        )
        return RowView(chosen, rows.__getitem__)

    def fingerprint(self) -> list[Any]:
        """Changes when the rows do; plain values."""
        return [[task.name, task.max_train_samples, task.source.fingerprint()] for task in self.tasks]


def named_row(name: str, rows: Sequence[Row], place: int) -> Row:
    """A row whose id begins with the name of the task it is from, so that it is no other task's row."""
    row = rows[place]
    return replace(row, id=f"{name}/{row.id}")


def _row_of(parts: Sequence[tuple[str, Sequence[Row]]], stops: Sequence[int], index: int) -> Row:
    part = bisect_right(stops, index)
    return named_row(*parts[part], index - (stops[part - 1] if part else 0))
