"""Opens a row's pictures in the worker that processes it, and says which file and row a broken one belongs to."""

from dataclasses import dataclass
from pathlib import Path

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
