"""Reads annotation files (JSON, JSONL, parquet) into plain records, each with its row number."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lmmcl.errors import UserError

Record = dict[str, Any]
SUFFIXES = (".json", ".jsonl", ".parquet")


def read_records(path: Path, picture_column: str) -> Iterator[tuple[int, Record]]:
    """Reads a file row by row.

    Args:
        path: a ``.json`` file with a list of records, a ``.jsonl`` file with one per line (blank lines are no
            rows), or a ``.parquet`` file.
        picture_column: the column of a parquet file, besides ``images``, that holds pictures.

    Yields:
        The row number, from 1 (of a JSONL file: the line), and the record. Pictures inside a parquet file
        come as `lmmcl.data.picture.EmbeddedPicture`.

    Raises:
        UserError: no such file, an unknown kind, or a row that is not JSON or not a record.
    """
    readers: dict[str, Callable[[], Iterator[tuple[int, Any]]]] = {
        ".json": lambda: _json(path),
        ".jsonl": lambda: _jsonl(path),
        ".parquet": lambda: _parquet(path, {picture_column, "images"}),
    }
    if path.suffix not in readers:
        raise UserError(
            f"path: a file of rows must end in {', '.join(SUFFIXES)}, got {path}; convert or rename it."
        )
    if not path.is_file():
        raise UserError(f"path: there is no file {path} (seen from {Path.cwd()}); correct the path.")
    for number, record in readers[path.suffix]():
        if not isinstance(record, dict):
            raise UserError(
                f"{path}, row {number}: a row must be a JSON object, got {str(record)[:60]!r}; correct it."
            )
        yield number, record


def _decode(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: must be UTF-8 text, {error}; save it as UTF-8.") from error


def _json(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        records = json.loads(_decode(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: not JSON ({error.msg}); correct the file.") from error
    if not isinstance(records, list):
        raise UserError(
            f"{path}: must hold a JSON list of rows, got {type(records).__name__}; correct the file."
        )
    yield from enumerate(records, 1)


def _jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(_decode(path).split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path}, row {number}: not JSON ({error.msg}); correct the line.") from error


def _parquet(path: Path, picture_columns: set[str]) -> Iterator[tuple[int, Any]]:
    from lmmcl.data.parquet import read_parquet  # imports datasets: a second that only parquet should cost

    yield from read_parquet(path, picture_columns)
