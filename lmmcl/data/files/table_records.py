"""Records of table files: parquet and arrow, through `datasets`."""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.exceptions import DatasetsError

from lmmcl.data.files.records import Place, Record
from lmmcl.data.files.table import TableRows
from lmmcl.data.pictures.picture_roots import PictureRoots, refuse_links_out
from lmmcl.errors import UserError


class TableRecords:
    """The records of one table, memory-mapped; pictures come as functions that open them.

    Args:
        file: the file, or the folder of a saved dataset.
        folder: where pictures may lie.
        prefix: of the names of rows without one; their number follows.
        table: what the file holds.
    """

    def __init__(self, file: Path, folder: PictureRoots, prefix: str, table: Any) -> None:
        self._file, self._folder, self._prefix = str(file), folder, prefix
        self._rows = TableRows(table, self._file, first=1, roots=folder.roots)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Record:
        """The record at a position from 0, without its empty columns."""
        return _filled(self._rows[index])

    def __iter__(self) -> Iterator[Record]:
        return map(_filled, self._rows)

    def place(self, index: int) -> Place:
        """Where it stands."""
        return Place(self._file, index + 1, self._folder, f"{self._prefix}{index + 1}")

    def fingerprint(self) -> str:
        """A SHA-256 of the values, pictures by their size."""
        return sha256((self._prefix + self._rows.fingerprint).encode()).hexdigest()


def _filled(record: Record) -> Record:
    return {key: value for key, value in record.items() if value is not None}


def read_table(file: Path, folder: PictureRoots, prefix: str) -> TableRecords:
    """Opens a table.

    Args:
        file: ``.parquet``, ``.arrow`` (stream or file format), or the folder of a saved ``datasets.Dataset``.
        folder: where pictures may lie.
        prefix: of the names of rows without one.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return TableRecords(file, folder, prefix, _load(file))
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, DatasetsError, pa.ArrowException) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise UserError(
            f"{file}: cannot be read as {file.suffix[1:] or 'a saved dataset'} ({reason}); repair it."
        ) from error


def _load(file: Path) -> Any:
    if file.is_dir():
        named = json.loads((file / "state.json").read_bytes())["_data_files"]
        refuse_links_out([file / str(one["filename"]) for one in named], file, ())
        return datasets.load_from_disk(str(file))
    if file.suffix == ".parquet":
        return datasets.Dataset.from_parquet(str(file), cache_dir=_cache_of(file))
    try:
        return datasets.Dataset.from_file(str(file))
    except (ValueError, pa.ArrowException):
        return datasets.load_dataset(
            "arrow", data_files=[str(file)], split="train", cache_dir=_cache_of(file)
        )


def _cache_of(file: Path) -> str:
    """A cache of a file's own, as long as its size and time stay the same.

    `datasets` finds what it prepared of a file by path and time, which copying and unpacking keep. What tells more
    (`lmmcl.data.files.file_stamp`) changes with an owner, too, and a table may be too large to be prepared for that.
    """
    found = file.stat()
    name = f"{file.resolve()} {found.st_size} {found.st_mtime_ns}"
    key = sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    return str(Path(datasets.config.HF_DATASETS_CACHE) / "files" / key[:16])
