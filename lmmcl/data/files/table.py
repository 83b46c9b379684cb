"""The rows of a `datasets` table as plain records whose pictures are opened later."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload
from uuid import uuid4

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from lmmcl.data.files.file_stamp import file_stamp
from lmmcl.data.files.records import Record
from lmmcl.data.pictures.picture import EmbeddedPicture, PictureFile

BATCH = 1000
"""Records that are read at a time where all of them are."""


class TableRows(Sequence[Record]):
    """The records of a memory-mapped table, made when they are asked for.

    A picture in a record is a function that opens it: an `EmbeddedPicture` where the table holds its bytes, a
    `PictureFile` where it holds the absolute path of a file in one of the roots; any other path comes as it stands. A
    column of
    pictures is one of encoded bytes, declared as pictures or not, or of lists of them.

    Args:
        table: a ``datasets.Dataset`` as it was loaded (no selection of rows).
        name: what errors call it; ``, row 7`` is added.
        first: number of the first row in errors.
        roots: real paths of the folders that picture files must lie in.
    """

    def __init__(self, table: Any, name: str, first: int = 0, roots: tuple[str, ...] = ()) -> None:
        self._name, self._first, self._roots = name, first, roots
        self.column_names = tuple(table.column_names)
        pictures = [column for column, feature in table.features.items() if _holds_pictures(feature)]
        self.plain_names = tuple(column for column in self.column_names if column not in pictures)
        self._size = len(table)
        self._stamp = _stamp(table)
        self._plain = table.select_columns(list(self.plain_names))
        features = table.features.items()
        self._classes = {name: one.names for name, one in features if isinstance(one, datasets.ClassLabel)}
        self._pictures = {column: table.select_columns([column]) for column in pictures}

    @override
    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    @override
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        return self._records(place, 1)[0]

    @override
    def __iter__(self) -> Iterator[Record]:
        for start in range(0, len(self), BATCH):
            yield from self._records(start, min(BATCH, len(self) - start))

    def columns(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """Whole columns without pictures, one value per row.

        Args:
            names: from `plain_names`.
        """
        return {name: self._named(name, self._plain.data.column(name).to_pylist()) for name in names}

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 of all values, pictures by their size: the same wherever the data lie."""
        digest = hashlib.sha256(json.dumps([self.column_names, self._size]).encode())
        for start in range(0, self._size, BATCH):
            count = min(BATCH, self._size - start)
            digest.update(json.dumps(self._plain_records(start, count), default=str).encode())
            for column in self._pictures:
                digest.update(json.dumps(_sizes(self._column(column, start, count))).encode())
        return digest.hexdigest()

    def _column(self, column: str, start: int, count: int) -> Any:
        return self._pictures[column].data.fast_slice(start, count).column(column)

    def _plain_records(self, start: int, count: int) -> list[Record]:
        if not self.plain_names:
            return [{} for _ in range(count)]
        rows: list[Record] = self._plain.data.fast_slice(start, count).to_pylist()
        for column in self._classes:
            for row, name in zip(rows, self._named(column, [row[column] for row in rows]), strict=True):
                row[column] = name
        return rows

    def _named(self, column: str, values: list[Any]) -> list[Any]:
        """The names of class labels; other values as they are."""
        names = self._classes.get(column)
        if names is None:
            return values
        return [None if value is None or value < 0 else names[value] for value in values]

    def _records(self, start: int, count: int) -> list[Record]:
        records = self._plain_records(start, count)
        for column, table in self._pictures.items():
            marks = _marks(self._column(column, start, count))
            for offset, (record, mark) in enumerate(zip(records, marks, strict=True)):
                place = start + offset
                where = f"{self._name}, row {place + self._first}"
                record[column] = self._openers(mark, table, column, place, where)
        return [{name: record[name] for name in self.column_names} for record in records]

    def _openers(
        self, mark: Any, table: Any, column: str, row: int, where: str, position: int | None = None
    ) -> Any:
        if isinstance(mark, list):
            return [self._openers(one, table, column, row, where, index) for index, one in enumerate(mark)]
        if mark is True:
            return EmbeddedPicture(table, column, row, position, where, self._stamp)
        if mark and Path(mark).is_absolute():
            return PictureFile(Path(mark), where, self._roots)
        return mark


def _stamp(table: Any) -> str:
    """Tells a table from all others and from what it was: by its files, as `datasets` calls two copies by one name."""
    files = [str(file["filename"]) for file in table.cache_files]
    own: list[Any] = [[file, file_stamp(file)] for file in files] or [uuid4().hex]
    return hashlib.sha256(json.dumps([table._fingerprint, own]).encode()).hexdigest()[:32]


def _holds_pictures(feature: Any) -> bool:
    inner = getattr(feature, "feature", feature)
    if isinstance(inner, datasets.Image):
        return True
    if isinstance(inner, dict):
        return "bytes" in inner
    return getattr(inner, "dtype", "") in ("binary", "large_binary")


def _marks(values: Any) -> list[Any]:
    """What stands in a column of pictures: True for bytes, else the path or None; lists of these for lists."""
    if isinstance(values, pa.ChunkedArray):
        return [mark for chunk in values.chunks for mark in _marks(chunk)]
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        flat = iter(_marks(values.flatten()))
        lengths = pc.list_value_length(values).to_pylist()
        return [None if length is None else [next(flat) for _ in range(length)] for length in lengths]
    if pa.types.is_struct(values.type):
        inside = pc.is_valid(pc.struct_field(values, "bytes")).to_pylist()
        has_path = values.type.get_field_index("path") >= 0
        paths = pc.struct_field(values, "path").to_pylist() if has_path else [None] * len(inside)
        return [True if held else path for held, path in zip(inside, paths, strict=True)]
    return [True if held else None for held in pc.is_valid(values).to_pylist()]


def _sizes(values: Any) -> list[Any]:
    """Bytes of every picture in a column, without reading them."""
    if isinstance(values, pa.ChunkedArray):
        return [size for chunk in values.chunks for size in _sizes(chunk)]
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        return [pc.list_value_length(values).to_pylist(), _sizes(values.flatten())]
    inside = pc.struct_field(values, "bytes") if pa.types.is_struct(values.type) else values
    none = pa.types.is_null(inside.type)
    sizes: list[Any] = [None] * len(inside) if none else pc.binary_length(inside).to_pylist()
    files = [mark if isinstance(mark, str) else None for mark in _marks(values)]
    return [
        Path(file).stat().st_size if file and Path(file).is_absolute() and Path(file).is_file() else size
        for file, size in zip(files, sizes, strict=True)
    ]
