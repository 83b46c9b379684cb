"""The log of a run: one row of numbers per optimizer step, without a gap or a double after any kill."""

from __future__ import annotations

import csv
import io
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lmmcl.run.checkpoint import naming_disk_errors, write_atomically

METRICS = "metrics.csv"
TIMING = "timing.csv"
RESERVED = ("step", "task", "seconds", "loss", "lr", "grad_norm")
"""Columns that are the run's own."""
_FLUSHED_AFTER = 20
_PLACE = ("step", "task")

Row = dict[str, str]


class RunLog:
    """Writes ``logs/metrics.csv`` (step, task, losses, learning rate, ...) and, apart from it, ``logs/timing.csv``.

    The driver hands over each step's numbers before it saves a checkpoint, which Lightning's loggers get afterwards:
    with them a kill between the two would leave a gap. Times stand in a file of their own, so that a run that was
    killed and resumed ends with the very bytes of one that was not. Numbers stay on the device until they are written.

    Args:
        folder: of the logs.
        write: False on all processes but the first.
    """

    def __init__(self, folder: Path, write: bool) -> None:
        self._folder = folder
        self._write = write
        self._rows: list[tuple[int, str, Mapping[str, Tensor | float], float]] = []
        self._columns = {METRICS: [*_PLACE], TIMING: [*_PLACE, "seconds"]}
        self._last = time.monotonic()

    def begin(self, step: int) -> None:
        """Goes on after ``step`` optimizer steps: rows beyond it, of a process that was killed, are dropped.

        Rows before it that are lost or cannot be read any more are told of: nothing makes them again.
        """
        if not self._write:
            return
        with naming_disk_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        for name, columns in self._columns.items():
            path = self._folder / name
            rows: list[Row] = []
            if step and path.exists():
                self._columns[name], rows = _read(path) or (columns, [])
                rows = [row for row in rows if int(row["step"]) <= step]
            _rewrite(path, self._columns[name], rows)
            if lost := step - len({row["step"] for row in rows}):
                warnings.warn(
                    f"{path} lacks {lost} of {step} steps: rows of it were damaged or removed. The run goes on, and "
                    "its result does not depend on them.",
                    stacklevel=2,
                )

    def start_task(self) -> None:
        """Sets the clock: the first step of a task does not count the evaluation before it."""
        self._last = time.monotonic()

    def put(self, step: int, task: str, numbers: Mapping[str, Tensor | float]) -> None:
        """Takes the numbers of a step.

        Args:
            step: optimizer steps done in all tasks, from 1.
            task: the task being trained.
            numbers: scalars by column; a column that others lack is left empty there. One that somebody called as the
                place of a row is called stands under ``logged step``, ``logged task``.
        """
        now = time.monotonic()
        named = {f"logged {name}" if name in _PLACE else name: value for name, value in numbers.items()}
        self._rows.append((step, task, named, now - self._last))
        self._last = now
        if len(self._rows) >= _FLUSHED_AFTER:
            self.flush()

    def flush(self) -> None:
        """Writes what was taken; the driver calls it before each checkpoint."""
        rows, self._rows = self._rows, []
        if not self._write or not rows:
            return
        places = [{"step": str(step), "task": task} for step, task, _, _ in rows]
        numbers = [{name: f"{float(value):.7g}" for name, value in row.items()} for _, _, row, _ in rows]
        seconds = [f"{row[3]:.4f}" for row in rows]
        self._append(METRICS, [place | row for place, row in zip(places, numbers, strict=True)])
        self._append(TIMING, [place | {"seconds": text} for place, text in zip(places, seconds, strict=True)])

    def _append(self, name: str, rows: list[Row]) -> None:
        path, columns = self._folder / name, self._columns[name]
        new = list(dict.fromkeys(column for row in rows for column in row if column not in columns))
        if new:
            _, held = _read(path) or (columns, [])
            columns += new
            _rewrite(path, columns, [*held, *rows])
            return
        with naming_disk_errors(path), open(path, "a", encoding="utf-8", newline="") as file:
            file.write(_lines(columns, rows))
            file.flush()
            os.fsync(file.fileno())


def _lines(columns: list[str], rows: list[Row]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, columns, restval="", lineterminator="\n").writerows(rows)
    return text.getvalue()


def _rewrite(path: Path, columns: list[str], rows: list[Row]) -> None:
    write_atomically(path, (",".join(columns) + "\n" + _lines(columns, rows)).encode())


def _read(path: Path) -> tuple[list[str], list[Row]] | None:
    """Columns and whole rows; one that a kill cut short, or that is damaged, is left out. None: no row can be read."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    reader = csv.DictReader([line for line in lines if line.endswith("\n")])
    columns = list(reader.fieldnames or [])
    if tuple(columns[: len(_PLACE)]) != _PLACE:
        return None
    return columns, [row for row in reader if _is_whole(row)]


def _is_whole(row: Mapping[Any, Any]) -> bool:
    """Whether a row has a field for every column and no more, all of them numbers, or empty, but for the task."""
    if None in row or None in row.values():
        return False
    try:
        for column, text in row.items():
            if column != "task" and (text or column == "step"):
                float(text)
        return int(row["step"]) > 0
    except ValueError:
        return False
