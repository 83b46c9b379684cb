"""Reads annotation files (JSON, JSONL, parquet) into plain records, each with its row number."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from lmmcl.errors import UserError

Record = dict[str, Any]
SUFFIXES = (".json", ".jsonl", ".parquet")


@dataclass(frozen=True)
class EmbeddedPicture:
    """A picture inside a parquet file; calling it reads and decodes it.

    Args:
        table: a ``datasets.Dataset`` with the picture's column, undecoded.
        column: the column.
        row: position of the row, from 0.
        position: place in the row's list of pictures; None where the column holds one picture.
        where: file and row, for errors.
    """

    table: Any
    column: str
    row: int
    position: int | None
    where: str

    def __call__(self) -> Image.Image:
        """Decodes the picture as RGB, upright as its EXIF data say."""
        value = self.table[self.row][self.column]
        value = value if self.position is None else value[self.position]
        data = value["bytes"] if isinstance(value, dict) else value
        try:
            with Image.open(BytesIO(data)) as picture:
                return ImageOps.exif_transpose(picture).convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(
                f"{self.where}: the picture in column {self.column} cannot be read ({error}); repair it or remove "
                "the row."
            ) from error


def read_records(path: Path, picture_column: str) -> Iterator[tuple[int, Record]]:
    """Reads a file row by row.

    Args:
        path: a ``.json`` file with a list of records, a ``.jsonl`` file with one per line (blank lines are no rows),
            or a ``.parquet`` file.
        picture_column: the column of a parquet file, besides ``images``, that holds pictures.

    Yields:
        The row number, from 1 (of a JSONL file: the line), and the record. Pictures inside a parquet file come as
        `EmbeddedPicture`.

    Raises:
        UserError: no such file, an unknown kind, or a row that is not JSON or not a record.
    """
    readers: dict[str, Callable[[], Iterator[tuple[int, Any]]]] = {
        ".json": lambda: _json(path),
        ".jsonl": lambda: _jsonl(path),
        ".parquet": lambda: _parquet(path, {picture_column, "images"}),
    }
    if path.suffix not in readers:
        raise UserError(f"path: a file of rows must end in {', '.join(SUFFIXES)}, got {path}; convert or rename it.")
    if not path.is_file():
        raise UserError(f"path: there is no file {path} (seen from {Path.cwd()}); correct the path.")
    for number, record in readers[path.suffix]():
        if not isinstance(record, dict):
            raise UserError(f"{path}, row {number}: a row must be a JSON object, got {str(record)[:60]!r}; correct it.")
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
        raise UserError(f"{path}: must hold a JSON list of rows, got {type(records).__name__}; correct the file.")
    yield from enumerate(records, 1)


def _jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(_decode(path).split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path}, row {number}: not JSON ({error.msg}); correct the line.") from error


def _parquet(path: Path, picture_columns: set[str]) -> Iterator[tuple[int, Any]]:
    import datasets  # slow to import, and only parquet needs it

    try:
        table = datasets.Dataset.from_parquet(str(path), cache_dir=None)
    except (OSError, ValueError, datasets.exceptions.DatasetGenerationError) as error:
        raise UserError(f"{path}: cannot be read as parquet ({error}); correct the file.") from error
    columns = [name for name in table.column_names if name in picture_columns and _holds_bytes(table.features[name])]
    pictures = {}
    for column in columns:
        feature = table.features[column]
        raw = datasets.Image(decode=False)
        if isinstance(feature, datasets.Image):
            table = table.cast_column(column, raw)
        elif isinstance(getattr(feature, "feature", None), datasets.Image):
            table = table.cast_column(column, datasets.List(raw))
        pictures[column] = table.select_columns([column])
    for index, record in enumerate(table.remove_columns(columns)):
        where = f"{path}, row {index + 1}"
        for column, pixels in pictures.items():
            record[column] = _pictures(pixels, column, index, where)
        yield index + 1, {key: value for key, value in record.items() if value is not None}


def _holds_bytes(feature: Any) -> bool:
    """Whether a parquet column holds encoded pictures rather than paths."""
    import datasets

    inner = getattr(feature, "feature", feature)
    if isinstance(inner, datasets.Image):
        return True
    return "bytes" in inner if isinstance(inner, dict) else getattr(inner, "dtype", "") in ("binary", "large_binary")


def _pictures(table: Any, column: str, row: int, where: str) -> Any:
    """A row's entry of a picture column: pictures to open later, or paths."""
    value = table[row][column]

    def one(entry: Any, position: int | None) -> Any:
        data = entry.get("bytes") if isinstance(entry, dict) else entry
        if data:
            return EmbeddedPicture(table, column, row, position, where)
        return entry.get("path") if isinstance(entry, dict) else None

    if isinstance(value, list):
        return [one(entry, position) for position, entry in enumerate(value)]
    return None if value is None else one(value, None)
