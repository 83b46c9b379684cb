"""The matrix of scores: one row per stage, one column per task."""

import csv
import io
import json
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from textwrap import indent
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lmmcl.errors import UserError
from lmmcl.evaluation.result import TaskResult
from lmmcl.run.checkpoint import as_json, write_atomically

VERSION = 1
_PLACE = "<stages>"
"""Stands where the rows go."""


def _natural(text: str) -> list[tuple[int, str]]:
    """Sorts "step 20" before "step 100"."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


@dataclass(frozen=True)
class Cell:
    """The score of one task after one stage.

    Args:
        score: mean, 0 to 100.
        n: number of examples.
        unparsed: share of predictions that no parser could read, 0 to 1.
        parts: means of named sub-scores, 0 to 100.
    """

    score: float
    n: int
    unparsed: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, result: TaskResult) -> Self:
        """The cell that a task's result fills."""
        return cls(result.mean, result.n, result.unparsed, result.parts)


@dataclass
class Stage:
    """One row of the matrix.

    Args:
        index: k; 0 is the base model, k > 0 the model after the k-th target.
        name: such as ``00-base`` or ``01-species``.
        trained: the target trained at this stage, None for the base model.
        variant: what sets this row off from the stage's final weights (``before WiSEFT``), "" for those.
        cells: task name -> cell.
    """

    index: int
    name: str
    trained: str | None = None
    variant: str = ""
    cells: dict[str, Cell] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Name and variant."""
        return f"{self.name} {self.variant}".strip()


@dataclass
class Matrix:
    """Scores of all tasks after all stages; ``matrix.json`` and ``matrix.csv`` of a run.

    Args:
        targets: target tasks in the order they are trained.
        held_out: held-out tasks.
        stages: rows, sorted by index; a stage's variants stand before it.
    """

    targets: Sequence[str]
    held_out: Sequence[str]
    stages: list[Stage] = field(default_factory=list)
    _rows: dict[str, tuple[Stage, str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def tasks(self) -> list[str]:
        """All columns, targets first."""
        return [*self.targets, *self.held_out]

    @property
    def finals(self) -> list[Stage]:
        """The rows that hold a stage's final weights, base model first."""
        return [stage for stage in self.stages if not stage.variant]

    def put(self, index: int, name: str, results: Iterable[TaskResult], *, variant: str = "") -> Stage:
        """Enters results into a stage's row, made if need be; entering the same twice changes nothing.

        A task that is neither target nor held-out yet becomes a held-out column.
        """
        results = list(results)
        self.held_out = [*self.held_out, *(r.task for r in results if r.task not in self.tasks)]
        known = {(stage.name, stage.variant): stage for stage in self.stages}
        trained = self.targets[index - 1] if index else None
        stage = known.get((name, variant)) or Stage(index, name, trained, variant)
        stage.cells.update({result.task: Cell.of(result) for result in results})
        self.stages = sorted(
            {**known, (name, variant): stage}.values(),
            key=lambda row: (row.index, not row.variant, row.name, _natural(row.variant)),
        )
        return stage

    def measured(self, tasks: Sequence[str]) -> list[str]:
        """Those of the tasks that were measured at every stage."""
        return [task for task in tasks if all(task in stage.cells for stage in self.finals)]

    def scores(self, tasks: Sequence[str]) -> NDArray[np.float64]:
        """Scores of some tasks after every stage, final weights only, 0 to 100; nan where not measured.

        Returns:
            (stages, tasks).
        """
        rows = [
            [stage.cells[task].score if task in stage.cells else np.nan for task in tasks]
            for stage in self.finals
        ]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(tasks))

    def save(self, folder: Path) -> None:
        """Writes ``matrix.json`` and ``matrix.csv``; the same matrix gives the same bytes."""
        held = {"version": VERSION, "targets": list(self.targets), "held_out": list(self.held_out)}
        write_atomically(folder / "matrix.csv", self.to_csv().encode())
        whole = as_json({**held, "stages": [_PLACE]}).decode()
        rows = ",\n".join(self._row(stage) for stage in self.stages)
        if not rows:
            write_atomically(folder / "matrix.json", as_json({**held, "stages": []}))
            return
        write_atomically(folder / "matrix.json", whole.replace(f'  "{_PLACE}"', rows, 1).encode())

    def _row(self, stage: Stage) -> str:
        """A stage as it stands in the file, made once: with many stages, all of them at each would be felt."""
        before, text = self._rows.get(stage.title, (None, ""))
        if before != stage:
            text = indent(as_json(asdict(stage)).decode().rstrip(), "  ")
            self._rows[stage.title] = replace(stage, cells=dict(stage.cells)), text
        return text

    def to_csv(self) -> str:
        """One line per cell, to be read by a spreadsheet or a data frame."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(
            ["index", "stage", "variant", "trained", "task", "role", "score", "n", "unparsed", "parts"]
        )
        for stage in self.stages:
            for task in self.tasks:
                if (cell := stage.cells.get(task)) is not None:
                    role = "target" if task in self.targets else "held_out"
                    parts = ";".join(f"{name}={value!r}" for name, value in cell.parts.items())
                    line = [stage.index, stage.name, stage.variant, stage.trained or "", task, role]
                    writer.writerow([*line, repr(cell.score), cell.n, repr(cell.unparsed), parts])
        return out.getvalue()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a ``matrix.json``, or the one in a run folder.

        One that is damaged, or lost from a run with measured stages, is made again from the run's answers, with a
        warning that names it, where these are whole.

        Raises:
            UserError: it is missing or damaged, and so are the answers.
        """
        path = path / "matrix.json" if path.is_dir() else path
        try:
            data = json.loads(path.read_bytes())
            stages = [
                Stage(**{**row, "cells": {task: Cell(**cell) for task, cell in row["cells"].items()}})
                for row in data["stages"]
            ]
            return cls(data["targets"], data["held_out"], stages)
        except FileNotFoundError as error:
            from lmmcl.evaluation.rebuilt_matrix import was_measured  # which makes a Matrix

            if was_measured(path.parent):
                return cls._again(path, error)
            raise UserError(
                f"{path}: there is no matrix here; give the folder of a run that has measured a stage."
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return cls._again(path, error)

    @classmethod
    def _again(cls, path: Path, damage: Exception) -> Self:
        from lmmcl.evaluation.rebuilt_matrix import rebuilt_matrix  # which makes a Matrix

        try:
            matrix = rebuilt_matrix(path.parent)
        except ValueError as error:
            raise UserError(
                f"{path} is damaged ({damage}) and cannot be made again from the run's answers ({error}). Put one of "
                f"the two back from a copy, or start afresh in another folder with --run."
            ) from error
        warnings.warn(
            f"{path} is damaged ({damage}); its rows were made again from the run's answers in predictions/.",
            stacklevel=3,
        )
        return cls(matrix.targets, matrix.held_out, matrix.stages)
