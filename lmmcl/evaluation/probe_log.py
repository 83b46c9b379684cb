"""What probes read of a model, stage by stage and step by step: one file per probe in the folder of the run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from lmmcl.errors import UserError
from lmmcl.run.checkpoint import as_json, naming_disk_errors, write_atomically

FOLDER = "probes"


@dataclass(frozen=True)
class ProbeRow:
    """One reading.

    Args:
        stage: 0 for the base model, k while the k-th task is trained and after it.
        name: of the stage, such as ``01-species``.
        step: optimizer steps done in all tasks.
        at: ``stage`` for a stage's final weights, ``step`` inside a task.
        values: by series, named as a legend would; nan where there is none.
    """

    stage: int
    name: str
    step: int
    at: Literal["stage", "step"]
    values: Mapping[str, float]

    @property
    def place(self) -> tuple[int, bool]:
        """What a row is unique by, in the order of time: a task's last step comes before its stage."""
        return self.step, self.at == "stage"

    def to_line(self) -> str:
        """A line of JSON; the same row gives the same text."""
        values = {name: float(value) if math.isfinite(value) else None for name, value in self.values.items()}
        return json.dumps({**asdict(self), "values": values}, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def of_line(cls, line: str) -> ProbeRow:
        """The row that ``to_line`` wrote."""
        row = json.loads(line)
        row["values"] = {name: math.nan if value is None else value for name, value in row["values"].items()}
        return cls(**row)


@dataclass(frozen=True)
class Probe:
    """All that one probe read in a run.

    Args:
        name: of the callback.
        probe: its class.
        title: of a figure.
        unit: of the values.
        about: one sentence that says what they are.
        rows: in the order of time.
    """

    name: str
    probe: str
    title: str
    unit: str
    about: str
    rows: tuple[ProbeRow, ...] = ()

    @property
    def at_stages(self) -> list[ProbeRow]:
        """The readings of final weights, by stage."""
        return [row for row in self.rows if row.at == "stage"]

    @property
    def series(self) -> list[str]:
        """Names of all series, numbers in them by their size."""
        return sorted({name for row in self.rows for name in row.values}, key=_natural)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts "layer 2 MLP" before "layer 10 MLP"."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


class ProbeLog:
    """The file ``probes/<name>.jsonl`` of a run, and beside it ``<name>.meta.json``, which says what it holds.

    A reading is written as soon as it is made, before the checkpoint that counts its step: a kill between the two makes
    it anew, in its old place. Call it on one process.

    Args:
        run: folder of the run.
        name: of the callback.

    Raises:
        UserError: the name cannot be a file's.
    """

    def __init__(self, run: Path, name: str) -> None:
        if not re.fullmatch(r"[\w.-][\w .+-]*", name):
            raise UserError(
                "trainer.callbacks: the name of a probe is its file's, and must be letters, digits, spaces, '_', '-', "
                f"'+' or '.', got {name!r}."
            )
        self.path = run / FOLDER / f"{name}.jsonl"
        self._meta = run / FOLDER / f"{name}.meta.json"

    def describe(self, probe: str, title: str, unit: str, about: str) -> None:
        """Says what the values are; see `Probe`."""
        meta = as_json({"probe": probe, "title": title, "unit": unit, "about": about})
        if not self._meta.exists() or self._meta.read_bytes() != meta:
            self._write(self._meta, meta)

    def put(self, row: ProbeRow) -> None:
        """Enters a reading, in place of one of the same step; the same readings give the same bytes."""
        rows = {**{known.place: known for known in self.read()}, row.place: row}
        self._write(self.path, "".join(rows[place].to_line() for place in sorted(rows)).encode())

    def read(self) -> list[ProbeRow]:
        """All readings, in the order of time; none where nothing was written.

        Raises:
            UserError: the file is damaged.
        """
        if not self.path.exists():
            return []
        try:
            return [ProbeRow.of_line(line) for line in self.path.read_text("utf-8").split("\n") if line]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"{self.path} is damaged ({error}); delete it to go on without its readings."
            ) from error

    def meta(self) -> dict[str, str]:
        """What ``describe`` wrote.

        Raises:
            UserError: it is missing or damaged.
        """
        try:
            meta = json.loads(self._meta.read_bytes())
            return {key: str(meta[key]) for key in ("probe", "title", "unit", "about")}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{self._meta} is missing or damaged ({error}); delete {self.path.name} beside it to go on without."
            ) from error

    def _write(self, path: Path, data: bytes) -> None:
        with naming_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)


def read_probes(run: Path) -> list[Probe]:
    """All probes of a run, by name; none where there were none.

    Raises:
        UserError: a file is damaged.
    """
    logs = {path.stem: ProbeLog(run, path.stem) for path in sorted((run / FOLDER).glob("*.jsonl"))}
    return [Probe(name=name, **log.meta(), rows=tuple(log.read())) for name, log in logs.items()]
