"""Opens a row's pictures where the row is processed, and names the file and row of a broken one."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from lmmcl.data.row import ImageSource
from lmmcl.errors import UserError


@dataclass(frozen=True)
class PictureFile:
    """A picture on disk; calling it opens it.

    Args:
        path: the picture.
        where: which file and row name it, for errors.
    """

    path: Path
    where: str

    def __call__(self) -> Image.Image:
        """Decodes the picture as RGB, upright as its EXIF data say."""
        try:
            with Image.open(self.path) as picture:
                return ImageOps.exif_transpose(picture).convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(
                f"{self.where}: picture {self.path} cannot be read ({error}); repair it or remove the row."
            ) from error


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
                f"{self.where}: the picture in column {self.column} cannot be read ({error}); repair it or "
                "remove the row."
            ) from error


def open_picture(source: ImageSource, where: str) -> Image.Image:
    """The picture behind a row's entry.

    Args:
        source: a picture, a path, or a function that makes one.
        where: names the row in errors.

    Returns:
        The picture, RGB if it comes from a file.

    Raises:
        UserError: it cannot be read.
    """
    if isinstance(source, Image.Image):
        return source
    return PictureFile(source, where)() if isinstance(source, Path) else source()
