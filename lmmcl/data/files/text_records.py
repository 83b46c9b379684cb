"""Records of text files: JSON, JSONL, CSV and TSV."""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from lmmcl.data.bad_row import BadRows, RowError
from lmmcl.data.files.records import Place, Record
from lmmcl.data.pictures.picture_roots import PictureRoots
from lmmcl.errors import UserError

_LONGEST_CELL = 1 << 30
"""Characters of a cell; Python's own limit, 131,072, is less than a long conversation has."""


class TextRecords:
    """Records as JSON texts in one block of memory: a tenth of what they take as objects, sent as one piece.

    Args:
        file: the file they stand in.
        folder: where pictures may lie.
        prefix: of the names of rows without one; their number follows.
        texts: number in the file and JSON text of each.
    """

    def __init__(
        self, file: Path, folder: PictureRoots, prefix: str, texts: Iterable[tuple[int, bytes]]
    ) -> None:
        self._file, self._folder, self._prefix = file, folder, prefix
        numbers, parts = [], []
        for number, text in texts:
            numbers.append(number)
            parts.append(text)
        self._numbers = np.array(numbers, np.int64)
        self._stops = np.cumsum([len(part) for part in parts], dtype=np.int64)
        self._block = b"".join(parts)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Record:
        """The record at a position from 0, without its empty columns."""
        start = int(self._stops[index - 1]) if index else 0
        found = json.loads(self._block[start : int(self._stops[index])])
        return {key: value for key, value in found.items() if value is not None}

    def __iter__(self) -> Iterator[Record]:
        return (self[index] for index in range(len(self)))

    def place(self, index: int) -> Place:
        """Where it stands; the number of a row of JSONL is its line."""
        number = int(self._numbers[index])
        return Place(str(self._file), number, self._folder, f"{self._prefix}{number}")

    def fingerprint(self) -> str:
        """A SHA-256 of the texts and their numbers."""
        digest = sha256(self._block)
        digest.update(self._prefix.encode() + self._numbers.tobytes() + self._stops.tobytes())
        return digest.hexdigest()


def read_text(file: Path, folder: PictureRoots, prefix: str, bad: BadRows) -> TextRecords:
    """Reads a file of rows.

    Args:
        file: ``.json`` (a list of objects), ``.jsonl`` (one a line; blank lines are no rows), ``.csv`` (separated by
            commas, or by semicolons where the head has no comma) or ``.tsv``, with their columns' names in the first
            line, which is no row; an empty cell has no value.
        folder: where pictures may lie.
        prefix: of the names of rows without one.
        bad: hears of every row that is no object, or has not one cell per column.

    Raises:
        UserError: the file as a whole is not UTF-8, not JSON (or of objects with a key twice) or without a head.
    """
    return TextRecords(file, folder, prefix, _READERS[file.suffix](file, bad))


def parsed(text: str | bytes) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: it is not JSON, or an object has a key twice, of which JSON keeps the last without a word.
    """
    return json.loads(text, object_pairs_hook=_once_each)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice!r} stands twice in {str(found)[:60]}")
    return found


def _jsonl(file: Path, bad: BadRows) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(file.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line or line.isspace():
            continue
        where = f"{file}, row {number}"
        try:
            record = parsed(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            bad.report(RowError(where, f"must be UTF-8 text, {error}; save the file as UTF-8."))
        except (ValueError, RecursionError) as error:
            bad.report(RowError(where, f"not JSON ({getattr(error, 'msg', error)}); correct the line."))
        else:
            if _is_object(record, where, bad):
                yield number, line.strip()


def _json(file: Path, bad: BadRows) -> Iterator[tuple[int, bytes]]:
    try:
        records = parsed(_decode(file))
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        reason = str(getattr(error, "msg", error))
        lines = (
            "; call a file of one object per line .jsonl" if reason == "Extra data" else "; correct the file"
        )
        raise UserError(f"{file}{line}: not JSON ({reason}){lines}.") from error
    if not isinstance(records, list):
        raise UserError(
            f"{file}: must hold a JSON list of rows, got {type(records).__name__}; correct the file."
        )
    for number, record in enumerate(records, 1):
        if _is_object(record, f"{file}, row {number}", bad):
            yield number, json.dumps(record).encode()


def _csv(file: Path, bad: BadRows) -> Iterator[tuple[int, bytes]]:
    text = _decode(file)
    head = text.partition("\n")[0]
    semicolons = "," not in head and ";" in head
    lines = csv.reader(StringIO(text, newline=""), delimiter=";" if semicolons else ",", strict=True)
    return _cells(file, lines, bad)


def _tsv(file: Path, bad: BadRows) -> Iterator[tuple[int, bytes]]:
    return _cells(file, csv.reader(StringIO(_decode(file), newline=""), delimiter="\t", strict=True), bad)


def _cells(file: Path, lines: Iterator[list[str]], bad: BadRows) -> Iterator[tuple[int, bytes]]:
    number = 0
    head: list[str] | None = None
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        for cells in lines:
            if not any(cells):
                continue
            if head is None:
                head = _head(file, cells)
                continue
            number += 1
            if len(cells) != len(head):
                reason = (
                    f"must have a cell for each of {', '.join(head)}, got {len(cells)} for {len(head)}; correct or "
                    "quote them."
                )
                bad.report(RowError(f"{file}, row {number}", reason))
                continue
            record = {name: cell for name, cell in zip(head, cells, strict=True) if cell}
            yield number, json.dumps(record).encode()
    except csv.Error as error:
        raise UserError(
            f"{file}, after row {number}: cannot be read ({error}); correct its quotes."
        ) from error
    finally:
        csv.field_size_limit(before)


def _head(file: Path, names: list[str]) -> list[str]:
    names = [name.strip() for name in names]
    if len(set(names)) < len(names):
        raise UserError(
            f"{file}: every column must have a name of its own, got {', '.join(names)}; correct its head."
        )
    return names


def _decode(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: must be UTF-8 text, {error}; save it as UTF-8.") from error


def _is_object(record: Any, where: str, bad: BadRows) -> bool:
    if isinstance(record, dict):
        return True
    bad.report(RowError(where, f"a row must be a JSON object, got {str(record)[:60]!r}; correct it."))
    return False


_READERS: dict[str, Callable[[Path, BadRows], Iterator[tuple[int, bytes]]]] = {
    ".json": _json,
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".tsv": _tsv,
}
TEXT_SUFFIXES = tuple(_READERS)
