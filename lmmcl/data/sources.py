"""Rows from files on disk (LLaVA JSON, JSONL of messages, parquet), checked as soon as they are named."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmmcl.data.conversation import COLUMNS, record_to_row
from lmmcl.data.picture import EmbeddedPicture, PictureFile
from lmmcl.data.records import read_records
from lmmcl.data.row import Row
from lmmcl.data.task import PARTS, Part
from lmmcl.errors import UserError

TARGET_SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}
HELD_OUT_SHARES = {"dev": 0.1, "test": 0.9}


class FileSource:
    """Rows from one file, or from one file per part.

    Everything that can be known without decoding pictures is checked here, before a model is loaded. A single
    file is cut into parts by a hash of each row's id: a row stays in its part when others are added or
    removed. With a file per part and none for ``dev``, dev is cut in the same way from train (from test where
    there is no train). No row may stand in two parts.

    Args:
        path: a file (``.json``, ``.jsonl``, ``.parquet``), or a mapping of ``train``, ``dev``, ``test`` to
            files. Relative to the working directory.
        image_folder: relative paths of pictures start here; None: beside the file that names them.
        columns: the file's names for ``id``, ``question``, ``answer`` and ``image``, where they differ from
            these; ``id: null`` takes the row number as the id.
        split: shares of the parts of a single file, adding up to 1; None: train 0.8, dev 0.1, test 0.1. With
            a file per part only ``dev`` may be given: the share that is cut for it (0.1).
        held_out: the rows are only measured; the default shares are then dev 0.1, test 0.9.

    Attributes:
        stem: name of the (test) file without its suffix.

    Raises:
        UserError: with file and row: bad JSON, an unknown form, an id twice, an empty answer, a missing
            picture, a row in two parts; or an empty part.
    """

    def __init__(
        self,
        path: str | Path | Mapping[str, str | Path],
        image_folder: str | Path | None = None,
        columns: Mapping[str, str | None] | None = None,
        split: Mapping[str, float] | None = None,
        held_out: bool = False,
    ) -> None:
        self._columns = _columns(columns)
        files = _files(path)
        shares = _shares(files, split, held_out)
        self.stem = files[_main_part(files)].stem
        self._parts: dict[str, list[Row]] = {}
        digest = hashlib.sha256(json.dumps([sorted(self._columns.items()), sorted(shares.items())]).encode())
        for part, file in files.items():
            folder = file.parent if image_folder is None else Path(image_folder)
            rows = _read(file, folder, self._columns)
            for name in shares[part]:
                self._parts.setdefault(name, [])
            for row in rows:
                self._parts[_part_of(row.id, shares[part])].append(row)
            digest.update(_digest(file, rows))
        self._fingerprint = digest.hexdigest()
        self._name = ", ".join(str(file) for file in files.values())
        _refuse_overlap(self._parts, self._name)
        if not held_out:
            self.split("train")
        self.split("test")

    def split(self, name: Part) -> Sequence[Row]:
        """The rows of a part, in the order of the file.

        Raises:
            UserError: there are none.
        """
        rows = self._parts.get(name, [])
        if not rows:
            found = ", ".join(f"{part} {len(rows)}" for part, rows in self._parts.items())
            raise UserError(
                f"path: {self._name} must have rows for {name}, got {found}; give path: {{train: ..., test: "
                f"...}}, more rows, or other shares in split."
            )
        return rows

    def fingerprint(self) -> str:
        """A SHA-256 of the files, the sizes of their pictures, and how they are split."""
        return self._fingerprint


def _main_part(files: Mapping[str, Path]) -> str:
    return "test" if "test" in files else next(iter(files))


def _columns(given: Mapping[str, str | None] | None) -> dict[str, str | None]:
    columns: dict[str, str | None] = {name: name for name in COLUMNS}
    for name, column in (given or {}).items():
        if name not in columns:
            raise UserError(f"columns: keys must be among {', '.join(COLUMNS)}, got {name!r}; correct it.")
        columns[name] = column
    return columns


def _files(path: Any) -> dict[str, Path]:
    """The file of every part that has one; a single file stands under ``all``."""
    if isinstance(path, str | Path):
        return {"all": Path(path)}
    if not isinstance(path, Mapping) or not path or not set(path) <= set(PARTS):
        raise UserError(
            f"path: must be a file or a mapping of {', '.join(PARTS)} to files, got {path!r}; correct it."
        )
    files: dict[str, Path] = {part: Path(path[part]) for part in PARTS if part in path}
    if len({file.resolve() for file in files.values()}) < len(files):
        raise UserError(
            f"path: every part must have a file of its own, got {path!r}; name a single file to split it."
        )
    return files


def _shares(
    files: Mapping[str, Path], split: Mapping[str, float] | None, held_out: bool
) -> dict[str, dict[str, float]]:
    """For every file, which share of it goes to which part."""
    if "all" in files:
        cut = dict(split or (HELD_OUT_SHARES if held_out else TARGET_SHARES))
        if not set(cut) <= set(PARTS) or abs(sum(cut.values()) - 1) > 1e-6 or min(cut.values()) < 0:
            raise UserError(
                f"split: must be shares of {', '.join(PARTS)} that add up to 1, got {cut}; correct it."
            )
        return {"all": {part: cut[part] for part in PARTS if part in cut}}
    if split is not None and (set(split) != {"dev"} or "dev" in files or not 0 < split["dev"] < 1):
        raise UserError(
            f"split: with a file per part it may only hold dev's share, between 0 and 1, got {dict(split)}; "
            "remove it."
        )
    shares: dict[str, dict[str, float]] = {part: {part: 1.0} for part in files}
    if "dev" not in files:
        donor = "train" if "train" in files else "test"
        dev = (split or {"dev": 0.1})["dev"]
        shares[donor] = {donor: 1 - dev, "dev": dev}
    return shares


def _part_of(row_id: str, shares: Mapping[str, float]) -> str:
    """The part of a row: its id's hash, read as a number from 0 to 1, falls into one share."""
    place = int.from_bytes(hashlib.sha256(row_id.encode()).digest()[:6]) / 2**48
    for part, share in shares.items():
        place -= share
        if place < 0:
            return part
    return [part for part, share in shares.items() if share][-1]


def _read(file: Path, folder: Path, columns: Mapping[str, str | None]) -> list[Row]:
    rows: list[Row] = []
    seen: dict[str, int] = {}
    for number, record in read_records(file, columns["image"] or "image"):
        row = record_to_row(record, number, f"{file}, row {number}", folder, columns)
        if row.id in seen:
            raise UserError(
                f"{file}, row {number}: the id {row.id!r} stands in row {seen[row.id]} already; make ids "
                f"unique, or use row numbers with columns: {{id: null}}."
            )
        seen[row.id] = number
        rows.append(row)
    if not rows:
        raise UserError(f"path: {file} must hold rows, it is empty.")
    return rows


def _digest(file: Path, rows: Sequence[Row]) -> bytes:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
    for row in rows:
        for picture in row.images:
            if isinstance(picture, PictureFile):
                digest.update(f"{picture.path.stat().st_size} ".encode())
    return digest.digest()


def _content(row: Row) -> str:
    """What a row shows and asks. Pictures count by their path, or inside a file by their place in it."""
    pictures = [
        str(picture.path.resolve())
        if isinstance(picture, PictureFile)
        else f"{picture.where} {picture.column} {picture.position}"
        for picture in row.images
        if isinstance(picture, PictureFile | EmbeddedPicture)
    ]
    return json.dumps([row.messages, pictures], ensure_ascii=False, default=str)


def _refuse_overlap(parts: Mapping[str, Sequence[Row]], name: str) -> None:
    seen: dict[bytes, tuple[str, str]] = {}
    for part, rows in parts.items():
        for row in rows:
            key = hashlib.sha256(_content(row).encode()).digest()
            other, twin = seen.setdefault(key, (part, row.id))
            if other != part:
                raise UserError(
                    f"path: {name}: no row may stand in two parts, got row {twin!r} in {other} and the same "
                    f"as row {row.id!r} in {part}; remove one."
                )
