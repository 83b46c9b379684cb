"""Records of WebDataset shards, read by seeking into the tar files: for sets that do not fit on the disk unpacked."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lmmcl.data.bad_row import RowError
from lmmcl.data.files.file_stamp import file_stamp
from lmmcl.data.files.picture_folder import PICTURE_SUFFIXES
from lmmcl.data.files.records import Place, Record
from lmmcl.data.files.tar_index import TEXTS, tar_index
from lmmcl.data.files.text_records import parsed
from lmmcl.data.pictures.picture import decode
from lmmcl.data.pictures.picture_roots import PictureRoots
from lmmcl.errors import UserError

_OTHER_MEDIA = ("mp4", "avi", "mov", "mkv", "webm", "mpg", "mpeg", "wav", "mp3", "flac", "ogg", "opus", "m4a")
"""Extensions of what a model of pictures cannot be shown."""


@dataclass(frozen=True)
class TarPicture:
    """A picture inside a shard; calling it reads and decodes it.

    Args:
        shard: path of the tar file.
        offset: where its bytes start.
        size: how many there are.
        name: of the member, for errors.
        where: shard and row, for errors.
    """

    shard: str
    offset: int
    size: int
    name: str
    where: str

    def encoded(self) -> bytes:
        """The picture as it lies in the shard, not decoded."""
        return read_at(self.shard, self.offset, self.size, self.where)

    def __call__(self) -> Image.Image:
        """Decodes the picture, `lmmcl.data.pictures.picture.upright`."""
        return decode(BytesIO(self.encoded()), f"the picture {self.name}", self.where)

    def identity(self) -> str:
        """Changes when the shard does."""
        return f"{self.shard} {file_stamp(self.shard)} {self.offset} {self.size}"


def read_at(file: str, offset: int, size: int, where: str) -> bytes:
    """Reads bytes at a place of a file.

    Raises:
        RowError: the file ends before.
    """
    handle = os.open(file, os.O_RDONLY)
    try:
        data = os.pread(handle, size, offset)
    finally:
        os.close(handle)
    if len(data) < size:
        raise RowError(
            where, f"the shard ends at byte {offset + len(data)}, inside a member; it changed: copy it again."
        )
    return data


class TarRecords:
    """The records of shards: of each sample its ``.json`` record, texts, numbers and pictures.

    A record holds the keys of the sample's ``.json``, every text and number under its extension (``txt``, ``cls``),
    ``answer``: the first of these if the ``.json`` has none, and ``images``: its pictures in the order of the shard.
    Its ``id`` is ``<shard>/<key>``. A sample takes some bytes of memory for each of its members and nothing else.

    Args:
        shards: uncompressed tar files, at least one.
        folder: where pictures may lie that are not in the shards.

    Raises:
        UserError: see `tar_index`; or two shards have one name.
    """

    def __init__(self, shards: Sequence[Path], folder: PictureRoots) -> None:
        self._shards = [str(shard) for shard in shards]
        self._names = [shard.stem for shard in shards]
        if len(set(self._names)) < len(self._names):
            raise UserError(
                f"path: shards must differ in their names, got {', '.join(self._shards)}; rename one."
            )
        self._folder = folder
        self._index = [tar_index(shard) for shard in shards]
        self._stops = np.cumsum([len(index) for index in self._index])

    def __len__(self) -> int:
        return int(self._stops[-1])

    def __getitem__(self, index: int) -> Record:
        """The record of a sample, counted through all shards.

        Raises:
            RowError: its ``.json``, text or number cannot be read, or it has a video or a sound and no picture.
        """
        shard, inside = self._locate(index)
        samples, file, place = self._index[shard], self._shards[shard], self.place(index)
        where = str(place)
        record: Record = {}
        pictures: list[TarPicture] = []
        texts: dict[str, str] = {}
        media: list[str] = []
        for extension, offset, size in samples.members(inside):
            kind = extension.rpartition(".")[2]
            if f".{kind}" in PICTURE_SUFFIXES:
                name = f"{samples.key(inside)}.{extension}"
                pictures.append(TarPicture(file, offset, size, name, where))
            elif kind == "json":
                record |= _object(read_at(file, offset, size, where), extension, where)
            elif kind in _OTHER_MEDIA:
                media.append(extension)
            elif kind in TEXTS:
                texts[extension] = _text(read_at(file, offset, size, where), extension, where)
        if media and not pictures:
            raise RowError(where, f"a row shows pictures alone, the sample has .{media[0]}; remove it.")
        if texts and record.get("answer") is None:
            record["answer"] = next(iter(texts.values()))
        if pictures:
            record = {key: value for key, value in record.items() if key not in ("image", "images")}
            record["images"] = pictures
        return {**record, **texts, "id": place.id}

    def __iter__(self) -> Iterator[Record]:
        return (self[index] for index in range(len(self)))

    def place(self, index: int) -> Place:
        """Where a sample stands; its number is counted in its shard."""
        shard, inside = self._locate(index)
        name = f"{self._names[shard]}/{self._index[shard].key(inside)}"
        return Place(self._shards[shard], inside + 1, self._folder, name)

    def fingerprint(self) -> str:
        """A SHA-256 of the shards' names, of their members' names and sizes, and of what records are read from."""
        digest = sha256("\n".join(self._names).encode())
        for index in self._index:
            digest.update(index.digest())
        return digest.hexdigest()

    def _locate(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        shard = int(np.searchsorted(self._stops, index, side="right"))
        return shard, index - (int(self._stops[shard - 1]) if shard else 0)


def _object(data: bytes, extension: str, where: str) -> dict[str, Any]:
    try:
        record = parsed(data)
    except (ValueError, RecursionError) as error:
        raise RowError(where, f"its .{extension} is not JSON ({error}); correct the sample.") from error
    if not isinstance(record, dict):
        raise RowError(
            where, f"its .{extension} must be a JSON object, got {str(record)[:60]!r}; correct it."
        )
    return record


def _text(data: bytes, extension: str, where: str) -> str:
    try:
        return data.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise RowError(where, f"its .{extension} must be UTF-8 text, {error}; correct the sample.") from error
