"""The log of a run: one row of numbers per optimizer step, without a gap or a double after any kill."""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from lmmcl.run.checkpoint import naming_disk_errors, write_atomically

METRICS = "metrics.csv"
TIMING = "timing.csv"
_FLUSHED_AFTER = 20

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
        self._columns = {METRICS: ["step", "task"], TIMING: ["step", "task", "seconds"]}
        self._last = time.monotonic()

    def begin(self, step: int) -> None:
        """Goes on after ``step`` optimizer steps: rows beyond it, of a process that was killed, are dropped."""
        if not self._write:
            return
        with naming_disk_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        for name, columns in self._columns.items():
            path = self._folder / name
            if step and path.exists():
                self._columns[name], rows = _read(path)
                _rewrite(path, self._columns[name], [row for row in rows if int(row["step"]) <= step])
            else:
                _rewrite(path, columns, [])

    def start_task(self) -> None:
        """Sets the clock: the first step of a task does not count the evaluation before it."""
        self._last = time.monotonic()

    def put(self, step: int, task: str, numbers: Mapping[str, Tensor | float]) -> None:
        """Takes the numbers of a step.

        Args:
            step: optimizer steps done in all tasks, from 1.
            task: the task being trained.
            numbers: scalars by column; a column that others lack is left empty there.
        """
        now = time.monotonic()
        self._rows.append((step, task, dict(numbers), now - self._last))
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
            columns += new
            _rewrite(path, columns, [*_read(path)[1], *rows])
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


def _read(path: Path) -> tuple[list[str], list[Row]]:
    """Columns and whole rows; a row that a kill cut short is left out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    reader = csv.DictReader(whole)
    return list(reader.fieldnames or []), list(reader)
