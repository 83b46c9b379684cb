"""Looks at a row's pictures without decoding them: the size from the header, a hash of the file's bytes."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from pathlib import Path

from PIL import Image

from lmmcl.data.bad_row import RowError
from lmmcl.data.pictures.picture import PictureFile, open_picture
from lmmcl.data.row import ImageSource, Row

Size = tuple[int, int]
_TAIL = 4096
"""Bytes at the end of a JPEG or PNG among which its end mark stands; behind it is at most some padding."""
_END_MARKS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_ORIENTATION = 0x0112
_TURNED = frozenset((5, 6, 7, 8))
"""EXIF orientations that swap width and height."""


@dataclass(frozen=True)
class Look:
    """What is known of one picture.

    Args:
        size: height and width in pixels, upright; None: it is made when it is asked for, and was not.
        marks: hashes by which a copy is known again: of the file's bytes, and of the pixels where it was decoded.
        decoded: whether the pixels were read.
    """

    size: Size | None
    marks: tuple[bytes, ...]
    decoded: bool


def look(row: Row, decode: bool) -> list[Look]:
    """Looks at the pictures of a row.

    A file whose header or end is not as it should be is decoded, which tells.

    Args:
        row: any row.
        decode: read the pixels as well, and make the pictures that are functions.

    Raises:
        UserError: a picture that cannot be read, with its file and row.
    """
    return [_one(source, f"row {row.id!r}", decode) for source in row.images]


def _one(source: ImageSource, where: str, decode: bool) -> Look:
    data = _encoded(source)
    if data is None and not decode and not isinstance(source, Image.Image | Path | PictureFile):
        return Look(None, (), False)
    marks = () if data is None else (_hash(data),)
    if not decode and data is not None and (size := _size(data)) is not None:
        return Look(size, marks, False)
    picture = open_picture(source, where)
    return Look(
        (picture.height, picture.width), (*marks, _hash(repr(picture.size).encode(), picture.tobytes())), True
    )


def _encoded(source: ImageSource) -> bytes | None:
    """The bytes of a picture that lies in a file; None for one in memory and for one that a function makes."""
    if isinstance(source, PictureFile | Path):
        try:
            if isinstance(source, PictureFile):
                source.check()
            return (source if isinstance(source, Path) else source.path).read_bytes()
        except (OSError, RowError):
            return None
    if (encoded := getattr(source, "encoded", None)) is not None:  # a picture inside a table or a shard
        data: bytes = encoded()
        return data
    return None


def _size(data: bytes) -> Size | None:
    """Height and width as the header says; None where something is wrong with the file."""
    try:
        with Image.open(BytesIO(data)) as header:
            if _END_MARKS.get(header.format or "", b"") not in data[-_TAIL:]:
                return None
            turned = header.getexif().get(_ORIENTATION) in _TURNED
            return (header.width, header.height) if turned else (header.height, header.width)
    except Exception:  # noqa: BLE001 - whatever it is, decoding will say it with file and row
        return None


def _hash(*parts: bytes) -> bytes:
    mark = blake2b(digest_size=12)
    for part in parts:
        mark.update(part)
    return mark.digest()
