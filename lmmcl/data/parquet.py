"""Reads parquet files through `datasets`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

from lmmcl.data.picture import EmbeddedPicture
from lmmcl.errors import UserError


def read_parquet(path: Path, picture_columns: set[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Reads a parquet file row by row, pictures undecoded.

    Args:
        path: the file.
        picture_columns: columns that may hold pictures: encoded ones, or paths.

    Yields:
        The row number, from 1, and the record without its empty columns.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        table = datasets.Dataset.from_parquet(str(path), cache_dir=None)
    except (OSError, ValueError, datasets.exceptions.DatasetGenerationError) as error:
        raise UserError(f"{path}: cannot be read as parquet ({error}); correct the file.") from error
    columns = [
        name for name in table.column_names if name in picture_columns and _holds_bytes(table.features[name])
    ]
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
    inner = getattr(feature, "feature", feature)
    if isinstance(inner, datasets.Image):
        return True
    return (
        "bytes" in inner
        if isinstance(inner, dict)
        else getattr(inner, "dtype", "") in ("binary", "large_binary")
    )


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
