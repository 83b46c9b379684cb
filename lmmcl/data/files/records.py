"""Records: what stands in a file of rows, before it becomes rows; each knows its place."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from typing import Any, Protocol

from typing_extensions import override

from lmmcl.data.pictures.picture_roots import PictureRoots

Record = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a record stands.

    Args:
        file: its file.
        row: its number there, from 1.
        folder: where its pictures may lie.
        id: the row's name, if the record has none itself.
    """

    file: str
    row: int
    folder: PictureRoots
    id: str

    @override
    def __str__(self) -> str:
        return f"{self.file}, row {self.row}"


class Records(Protocol):
    """The records of one file or several, in order; cheap to keep and to send to another process."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record:
        """The record at a position from 0; columns without a value are left out."""
        ...

    def __iter__(self) -> Iterator[Record]: ...

    def place(self, index: int) -> Place:
        """Where it stands."""
        ...

    def fingerprint(self) -> str:
        """Changes when a record does."""
        ...


class ChainedRecords:
    """The records of several files, one after the other.

    Args:
        files: each file's, at least one.
    """

    def __init__(self, files: Sequence[Records]) -> None:
        self._files = list(files)
        self._stops = list(accumulate(len(records) for records in self._files))

    def __len__(self) -> int:
        return self._stops[-1]

    def __getitem__(self, index: int) -> Record:
        """The record at a position, counted through all files."""
        records, inside = self._locate(index)
        return records[inside]

    def __iter__(self) -> Iterator[Record]:
        for records in self._files:
            yield from records

    def place(self, index: int) -> Place:
        """Where it stands."""
        records, inside = self._locate(index)
        return records.place(inside)

    def fingerprint(self) -> str:
        """Changes when a record or the files' order does."""
        return sha256(" ".join(records.fingerprint() for records in self._files).encode()).hexdigest()

    def _locate(self, index: int) -> tuple[Records, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        file = bisect_right(self._stops, index)
        return self._files[file], index - (self._stops[file - 1] if file else 0)
