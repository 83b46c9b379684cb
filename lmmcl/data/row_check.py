"""Looks at every record once, before a model is loaded: does it make a row, and are its pictures there?"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmmcl.data.bad_row import BadRow, BadRows, RowError
from lmmcl.data.conversation import RowForm
from lmmcl.data.files.cache_folder import cache_folder, keep
from lmmcl.data.files.records import Records
from lmmcl.data.files.tar_records import TarPicture, TarRecords
from lmmcl.data.pictures.picture import EmbeddedPicture, PictureFile
from lmmcl.data.pictures.picture_files import PictureFiles
from lmmcl.data.row import Row
from lmmcl.errors import UserError


@dataclass(frozen=True, slots=True)
class Checked:
    """What is remembered of a good row.

    Args:
        place: its position in the records.
        id: its name.
        content: a hash of what it shows and asks; pictures count by their path, by their place inside a table, and
            those inside a shard by their size alone.
        sizes: bytes of its picture files.
        exact: of a row of a shard: reads its pictures and gives the hash in which they count by their bytes.
    """

    place: int
    id: str
    content: bytes
    sizes: tuple[int, ...] = ()
    exact: Callable[[], bytes] | None = None


class Twins:
    """Finds rows that show and ask the same; pictures in shards are read only where all else is equal."""

    def __init__(self) -> None:
        self._seen: dict[bytes, tuple[str, Checked]] = {}
        self._exact: dict[bytes, tuple[str, Checked]] = {}
        self._read: set[bytes] = set()

    def first(self, part: str, row: Checked) -> tuple[str, str]:
        """Part and id of the first row that shows and asks the same as a row; its own if there was none."""
        name, one = self._seen.setdefault(row.content, (part, row))
        if one is not row and one.exact and row.exact:
            if row.content not in self._read:
                self._read.add(row.content)
                self._exact[one.exact()] = name, one
            name, one = self._exact.setdefault(row.exact(), (part, row))
        return name, one.id


def check_rows(records: Records, form: RowForm, bad: BadRows) -> Iterator[Checked]:
    """Every good row, in order.

    The verdict on tar shards is kept in the cache folder, as reading all of their records takes long; rows with
    pictures outside of the shards are looked at every time.

    Args:
        records: of any file.
        form: makes rows of them.
        bad: hears of the others.
    """
    if isinstance(records, TarRecords):
        yield from _check_shards(records, form, bad)
        return
    files = PictureFiles()
    seen: dict[str, str] = {}
    for place, record in enumerate(records):
        where = records.place(place)
        try:
            row = form.row(record, where)
            sizes = _sizes(row, files)
            content = _content(row, files, str(where))
            if row.id in seen:
                raise RowError(
                    str(where),
                    f"the id {row.id!r} stands in {seen[row.id]} already; make ids unique, or use row numbers with "
                    "columns: {id: null}.",
                )
        except RowError as error:
            bad.report(error)
            continue
        seen[row.id] = f"row {where.row}"
        yield Checked(place, row.id, content, sizes)


def _check_shards(records: TarRecords, form: RowForm, bad: BadRows) -> Iterator[Checked]:
    if "id" in form.columns.names:
        raise UserError("columns: rows of tar shards are named by their keys, got an id; remove it.")
    name = f"{records.fingerprint()} {form.identity()} {bad.on_bad_row}"
    kept = cache_folder("webdataset") / f"{sha256(name.encode()).hexdigest()}.verdict.npz"
    files = PictureFiles()
    if kept.is_file():
        wrong, contents = _read_verdict(kept)
        bad.found += wrong.values()
    else:
        wrong, contents = {}, np.zeros((len(records), 32), np.uint8)
        for place in range(len(records)):
            where = records.place(place)
            try:
                row = form.row(records[place], where)
                content = _content(row, files, str(where))
            except RowError as error:
                bad.report(error)
                wrong[place] = BadRow.of(error)
                continue
            if not any(isinstance(picture, PictureFile) for picture in row.images):
                contents[place] = np.frombuffer(content, np.uint8)
        _keep_verdict(kept, wrong, contents)
    for place in range(len(records)):
        if place in wrong:
            continue
        where = records.place(place)
        content = contents[place].tobytes()
        sizes: tuple[int, ...] = ()
        if not any(content):  # it has pictures outside
            try:
                row = form.row(records[place], where)
                content, sizes = _content(row, files, str(where)), _sizes(row, files)
            except RowError as error:
                bad.report(error)
                continue
        yield Checked(place, where.id, content, sizes, partial(_exact, records, form, place))


def _read_verdict(kept: Path) -> tuple[dict[int, BadRow], NDArray[np.uint8]]:
    """Bad rows by their place, and (rows, 32) contents; zeros for a bad row and one with pictures outside."""
    with np.load(kept) as arrays:
        wrong = {place: BadRow(*fields) for place, *fields in json.loads(arrays["wrong"].tobytes())}
        return wrong, arrays["contents"]


def _keep_verdict(kept: Path, wrong: dict[int, BadRow], contents: NDArray[np.uint8]) -> None:
    text = json.dumps([[place, *vars(row).values()] for place, row in wrong.items()]).encode()
    data = BytesIO()
    np.savez(data, wrong=np.frombuffer(text, np.uint8), contents=contents)
    keep(kept, data.getvalue())


def _exact(records: TarRecords, form: RowForm, place: int) -> bytes:
    where = records.place(place)
    row = form.row(records[place], where)
    digest = sha256(_content(row, PictureFiles(), str(where)))
    for picture in row.images:
        if isinstance(picture, TarPicture):
            digest.update(sha256(picture.encoded()).digest())
    return digest.digest()


def _sizes(row: Row, files: PictureFiles) -> tuple[int, ...]:
    return tuple(_size(picture, files) for picture in row.images if isinstance(picture, PictureFile))


def _size(picture: PictureFile, files: PictureFiles) -> int:
    picture.check(files.real(str(picture.path)))
    size = files.size(str(picture.path))
    if size is None:
        raise RowError(picture.where, f"there is no picture {picture.path}; correct the row or image_folder.")
    return size


def _content(row: Row, files: PictureFiles, where: str) -> bytes:
    pictures: list[str | int] = []
    for picture in row.images:
        if isinstance(picture, PictureFile):
            pictures.append(files.real(str(picture.path)))
        elif isinstance(picture, EmbeddedPicture):
            pictures.append(f"{picture.where} {picture.column} {picture.position}")
        elif isinstance(picture, TarPicture):
            pictures.append(picture.size)
    try:
        text = json.dumps([row.messages, pictures], ensure_ascii=False, default=str).encode()
        # These are written beside the answers, when all of them were given.
        json.dumps([row.id, row.gold, row.meta], ensure_ascii=False, default=str, skipkeys=True).encode()
    except UnicodeEncodeError as error:
        raise RowError(where, f"its text must be valid Unicode, {error}; correct the row.") from error
    return sha256(text).digest()
