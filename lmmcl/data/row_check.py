"""Looks at every record once, before a model is loaded: does it make a row, and are its pictures there?"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from lmmcl.data.bad_row import BadRow, BadRows, RowError
from lmmcl.data.cache_folder import cache_folder, keep
from lmmcl.data.conversation import RowForm
from lmmcl.data.picture import EmbeddedPicture, PictureFile
from lmmcl.data.picture_files import PictureFiles
from lmmcl.data.records import Records
from lmmcl.data.row import Row
from lmmcl.data.tar_records import TarRecords
from lmmcl.errors import UserError


@dataclass(frozen=True)
class Checked:
    """What is remembered of a good row.

    Args:
        place: its position in the records.
        id: its name.
        content: a hash of what it shows and asks; pictures count by their path, or by their place inside a file. Empty
            for a row of a tar shard, which no other row can equal.
        sizes: bytes of its picture files.
    """

    place: int
    id: str
    content: bytes = b""
    sizes: tuple[int, ...] = ()


def check_rows(records: Records, form: RowForm, bad: BadRows) -> Iterator[Checked]:
    """Every good row, in order.

    The verdict on tar shards is kept in the cache folder: nothing outside of a shard can change it, and reading all
    of its records takes long.

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
            sizes = tuple(_size(picture, files) for picture in row.images if isinstance(picture, PictureFile))
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
    kept = cache_folder("webdataset") / f"{sha256(name.encode()).hexdigest()}.json"
    if kept.is_file():
        wrong = {place: BadRow(*fields) for place, *fields in json.loads(kept.read_bytes())}
        bad.found += wrong.values()
    else:
        wrong = {}
        for place in range(len(records)):
            try:
                form.row(records[place], records.place(place))
            except RowError as error:
                bad.report(error)
                wrong[place] = BadRow.of(error)
        keep(kept, json.dumps([[place, *vars(row).values()] for place, row in wrong.items()]).encode())
    for place in range(len(records)):
        if place not in wrong:
            yield Checked(place, records.place(place).id)


def _size(picture: PictureFile, files: PictureFiles) -> int:
    size = files.size(str(picture.path))
    if size is None:
        raise RowError(picture.where, f"there is no picture {picture.path}; correct the row or image_folder.")
    return size


def _content(row: Row, files: PictureFiles, where: str) -> bytes:
    pictures = [
        files.real(str(picture.path))
        if isinstance(picture, PictureFile)
        else f"{picture.where} {picture.column} {picture.position}"
        for picture in row.images
        if isinstance(picture, PictureFile | EmbeddedPicture)
    ]
    try:
        text = json.dumps([row.messages, pictures], ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        raise RowError(where, f"its text must be valid Unicode, {error}; correct the row.") from error
    return sha256(text).digest()
