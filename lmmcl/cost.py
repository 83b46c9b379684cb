"""What a run cost, by stage and phase: ``logs/cost.csv``, summed over kills and resumes without counting twice."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args

from lmmcl.errors import UserError
from lmmcl.run.checkpoint import naming_disk_errors, write_atomically

COST = "cost.csv"
CostPhase = Literal["train", "evaluate"]
COST_PHASES: tuple[CostPhase, ...] = get_args(CostPhase)
_REACHED = 2
"""Checkpoints a run may go back to beside the one being written; their rows stay apart."""


@dataclass(frozen=True)
class StageCost:
    """What one phase of one stage cost, over all processes.

    Args:
        stage: 0 for the base model, k for the k-th task.
        name: of the stage, such as ``01-species``.
        phase: ``train``: from the task's start to the last thing that changes its weights, checkpoints included;
            ``evaluate``: measuring, probes and writing the stage, and what is measured in between.
        seconds: of the wall clock.
        samples: that were trained on, counted at every epoch, or answered; of several processes with the rows that
            are repeated so that all take part in every batch.
        tokens: of these samples: prompt and answer, picture tokens included, padding not.
        flops: floating point operations of the model's forwards and backwards, see `lmmcl.structure.flops`.
        peak_memory_bytes: of one process, the largest: allocated on the GPU during the phase or, on a CPU, the peak
            of the resident memory since the process began, which no phase can set back.
    """

    stage: int
    name: str
    phase: CostPhase
    seconds: float = 0.0
    samples: int = 0
    tokens: int = 0
    flops: int = 0
    peak_memory_bytes: int = 0

    def __add__(self, other: StageCost) -> StageCost:
        return replace(
            self,
            seconds=self.seconds + other.seconds,
            samples=self.samples + other.samples,
            tokens=self.tokens + other.tokens,
            flops=self.flops + other.flops,
            peak_memory_bytes=max(self.peak_memory_bytes, other.peak_memory_bytes),
        )


_COLUMNS = [field.name for field in fields(StageCost)]


def read_cost(run: Path) -> list[StageCost]:
    """What a run cost: one entry per stage and phase, in their order; empty where the run has no ``logs/cost.csv``.

    Raises:
        UserError: the file is damaged.
    """
    return _merged([cost for cost, _ in _read(run / "logs" / COST)])


def total_cost(costs: Sequence[StageCost]) -> StageCost:
    """The sum over stages and phases (of the peak memory, the largest), under the name ``total``."""
    total = StageCost(0, "total", "train")
    for cost in costs:
        total += cost
    return total


class CostLog:
    """Keeps ``logs/cost.csv`` in step with the checkpoints.

    What was spent since the last checkpoint is entered under the name of the next one, just before that is written, and
    a resume drops what stands under a later name than that of the checkpoint it goes on from. So a step that a killed
    process did and the next one did again is counted once; what a killed process spent since its last checkpoint is
    not counted.

    Args:
        folder: of the logs.
        write: False on all processes but the first.
    """

    def __init__(self, folder: Path, write: bool) -> None:
        self._path = folder / COST
        self._write = write
        self._rows: list[tuple[StageCost, str]] = []
        self._names: list[str] = []

    def begin(self, position: str | None) -> None:
        """Goes on from a checkpoint's position; None begins anew."""
        if not self._write:
            return
        kept = _read(self._path) if position is not None else []
        self._rows = [(cost, until) for cost, until in kept if until <= (position or "")]
        self._names = sorted({until for _, until in self._rows})

    def put(self, costs: Sequence[StageCost], until: str) -> None:
        """Enters what was spent before the checkpoint ``until`` and writes the file."""
        if not self._write:
            return
        self._names = [*(name for name in self._names if name != until), until][-1 - _REACHED :]
        held = [*self._rows, *((cost, until) for cost in costs)]
        # What no checkpoint on disk can go behind any more is one row.
        settled = [(cost, name) for cost, name in held if name < self._names[0]]
        groups: dict[tuple[int, str], str] = {}
        for cost, name in settled:
            groups[_key(cost)] = max(name, groups.get(_key(cost), name))
        folded = [(cost, groups[_key(cost)]) for cost in _merged([cost for cost, _ in settled])]
        self._rows = sorted(
            [*folded, *((cost, name) for cost, name in held if name >= self._names[0])],
            key=lambda row: (*_order(row[0]), row[1]),
        )
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*_COLUMNS, "until"])
        writer.writerows(
            [*(vars(cost) | {"seconds": f"{cost.seconds:.3f}"}).values(), n] for cost, n in self._rows
        )
        with naming_disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, text.getvalue().encode())


def _key(cost: StageCost) -> tuple[int, str]:
    return cost.stage, cost.phase


def _order(cost: StageCost) -> tuple[int, int]:
    return cost.stage, COST_PHASES.index(cost.phase)


def _merged(costs: Sequence[StageCost]) -> list[StageCost]:
    found: dict[tuple[int, str], StageCost] = {}
    for cost in costs:
        found[_key(cost)] = found[_key(cost)] + cost if _key(cost) in found else cost
    return sorted(found.values(), key=_order)


def _read(path: Path) -> list[tuple[StageCost, str]]:
    if not path.exists():
        return []
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        return [
            (
                StageCost(
                    int(row["stage"]),
                    row["name"],
                    COST_PHASES[COST_PHASES.index(row["phase"])],
                    float(row["seconds"]),
                    *(int(row[name]) for name in _COLUMNS[4:]),
                ),
                row["until"],
            )
            for row in rows
        ]
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); remove it: the run goes on without it.") from error
