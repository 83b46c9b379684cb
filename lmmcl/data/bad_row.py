"""A row that breaks: the error with its place, and the record of it where such rows are dropped."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self

from typing_extensions import override

from lmmcl.errors import UserError
from lmmcl.redaction import redacted

OnBadRow = Literal["error", "drop"]
BAD_ROWS_FILE = "bad_rows.jsonl"


class RowError(UserError):
    """A mistake in one row.

    Args:
        where: its file and number, ``rows.jsonl, row 7``.
        reason: the rule, the evidence, and the way out.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where, self.reason = where, redacted(reason)

    @override
    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        """How a worker sends it: an exception is else made again from its whole message alone."""
        return type(self), (self.where, self.reason)


@dataclass(frozen=True)
class BadRow:
    """A row that was left out.

    Args:
        file: the file, or the hub's table, that holds it.
        row: its number there, as errors call it.
        reason: what is wrong with it.
    """

    file: str
    row: int
    reason: str

    @classmethod
    def of(cls, error: RowError) -> "BadRow":
        """The record of an error."""
        file, _, number = error.where.rpartition(", row ")
        return cls(file, int(number), error.reason)


class BadRows:
    """Where bad rows are reported: the first one is an error, or they are all collected.

    Args:
        on_bad_row: ``error`` or ``drop``.
    """

    def __init__(self, on_bad_row: OnBadRow = "error") -> None:
        self.on_bad_row = on_bad_row
        self.found: list[BadRow] = []

    def report(self, error: RowError) -> None:
        """Raises the error, or notes its row as dropped."""
        if self.on_bad_row == "error":
            raise error
        self.found.append(BadRow.of(error))


def write_bad_rows(folder: Path, rows: Iterable[BadRow]) -> None:
    """Writes ``bad_rows.jsonl`` into a run folder, one row per line; no file where there is none."""
    lines = [json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows]
    if lines:
        (folder / BAD_ROWS_FILE).write_text("".join(lines), encoding="utf-8")
