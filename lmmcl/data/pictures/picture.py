"""Opens a row's pictures where the row is processed, upright and RGB, and names the file and row of a broken one."""

import os
import struct
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

from lmmcl.data.bad_row import RowError
from lmmcl.data.files.file_stamp import file_stamp
from lmmcl.data.pictures.picture_roots import lies_in
from lmmcl.data.row import ImageSource

_BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
"""What Pillow's decoders raise at a file that is broken or too large."""
MAX_PIXELS = 89_478_485
"""Pixels of the largest picture that is decoded: a quarter of a GiB as RGB, from where on Pillow warns."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "DIB", "PPM", "JPEG2000", "AVIF", "ICO")
"""What is decoded, whatever a file's name ends in. Others of Pillow's run programs (EPS) or are seldom looked after."""
_ROWS = 1 << 22
"""Values of a deep picture that are scaled at a time."""


def upright(picture: Image.Image) -> Image.Image:
    """An RGB picture, turned as its EXIF data say.

    The first frame of an animation. Transparent parts show white, as on a page. Grey of more than 8 bits is scaled from
    its whole range (integers from 65,535, or from the largest value if that is more; floats from least to
    largest) and never clipped.
    """
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):
        picture = _eight_bits(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        page = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(page, picture)
    return picture.convert("RGB")


def _eight_bits(picture: Image.Image) -> Image.Image:
    deep = np.asarray(picture)  # (height, width)
    rows = max(1, _ROWS // deep.shape[1])
    # Some rows at a time: as float64 the whole would be eight times its bytes, several times over.
    bands = [slice(start, start + rows) for start in range(0, len(deep), rows)]
    low = min(float(np.nan_to_num(deep[band].astype(np.float64)).min()) for band in bands)
    high = max(float(np.nan_to_num(deep[band].astype(np.float64)).max()) for band in bands)
    if picture.mode == "F":
        high = max(high, low + 1e-12)
    else:
        low, high = min(0.0, low), max(65535.0, high)
    grey = np.empty(deep.shape, np.uint8)
    for band in bands:
        values = np.nan_to_num(deep[band].astype(np.float64))
        grey[band] = np.rint((values - low) * (255 / (high - low))).astype(np.uint8)
    return Image.fromarray(grey)


@cache
def _formats() -> list[str]:
    """Those of `FORMATS` that this Pillow has."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def decode(stream: Path | BinaryIO, what: str, where: str) -> Image.Image:
    """Reads an encoded picture.

    Args:
        stream: the file, or its bytes as a stream.
        what: which picture of the row, for errors.
        where: file and row, for errors.

    Returns:
        The picture, `upright`.

    Raises:
        RowError: it cannot be read, is of none of `FORMATS`, or has more than `MAX_PIXELS` pixels. Nothing is decoded
            before its size is known.
    """
    try:
        with Image.open(stream, formats=_formats()) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise RowError(
                    where,
                    f"{what} must have at most {MAX_PIXELS:,} pixels, got {picture.width:,} x {picture.height:,}; "
                    "make it smaller or remove the row.",
                )
            return upright(picture)
    except RowError:
        raise
    except _BROKEN as error:
        raise RowError(
            where,
            f"{what} cannot be read ({str(error) or type(error).__name__}); repair it or remove the row.",
        ) from error


@dataclass(frozen=True)
class PictureFile:
    """A picture on disk; calling it opens it.

    Args:
        path: the picture.
        where: which file and row name it, for errors.
        roots: real paths of the folders that it must lie in, links followed; none: anywhere, as of a path that no data
            named.
    """

    path: Path
    where: str
    roots: tuple[str, ...] = ()

    def check(self, real: str | None = None) -> None:
        """Raises RowError where the picture lies outside of its roots.

        Args:
            real: its path without links, if that is known.
        """
        if not self.roots:
            return
        found = real or os.path.realpath(self.path)
        if not lies_in(found, self.roots):
            raise RowError(
                self.where,
                f"a picture must lie in {self.roots[0]}, got {self.path}, which is {found}; name the folder that rows "
                f"of files may read: image_folder, or data.image_roots: [{os.path.dirname(found)}].",
            )

    def __call__(self) -> Image.Image:
        """Decodes the picture, `upright`.

        Raises:
            RowError: it cannot be read, or lies outside of its roots.
        """
        self.check()
        return decode(self.path, f"picture {self.path}", self.where)

    def identity(self) -> str:
        """Changes when the picture's file does."""
        try:
            return f"{self.path} {file_stamp(self.path)}"
        except OSError:
            return f"{self.path} missing"


@dataclass(frozen=True)
class EmbeddedPicture:
    """A picture inside a table; calling it reads and decodes it.

    Args:
        table: a ``datasets.Dataset`` as it was loaded, with the picture's column.
        column: the column.
        row: position of the row, from 0.
        position: place in the row's list of pictures; None where the column holds one picture.
        where: file and row, for errors.
        stamp: tells the table's files from all others.
    """

    table: Any
    column: str
    row: int
    position: int | None
    where: str
    stamp: str

    def encoded(self) -> bytes:
        """The picture as it lies in the table, not decoded."""
        value = self.table.data.fast_slice(self.row, 1).column(self.column)[0]
        value = value if self.position is None else value[self.position]
        data = value.as_py()
        encoded: bytes = data["bytes"] if isinstance(data, dict) else data
        return encoded

    def __call__(self) -> Image.Image:
        """Decodes the picture, `upright`."""
        return decode(BytesIO(self.encoded()), f"the picture in column {self.column}", self.where)

    def identity(self) -> str:
        """Changes when the table does."""
        return f"{self.stamp} {self.column} {self.row} {self.position}"


def open_picture(source: ImageSource, where: str) -> Image.Image:
    """The picture behind a row's entry.

    Args:
        source: a picture, a path, or a function that makes one.
        where: names the row in errors.

    Returns:
        The picture, RGB.

    Raises:
        UserError: it cannot be read.
    """
    if isinstance(source, Path):
        return decode(source, f"picture {source}", where)
    picture = source if isinstance(source, Image.Image) else source()
    return picture if picture.mode == "RGB" else upright(picture)
