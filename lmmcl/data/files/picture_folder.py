"""Records of a folder of pictures with a sub-folder per class."""

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from lmmcl.data.files.records import Place, Record
from lmmcl.data.pictures.picture_roots import PictureRoots
from lmmcl.errors import UserError

PICTURE_SUFFIXES = (
    *(
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".gif",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
    ),
    *(".pbm", ".pnm", ".jp2", ".j2k", ".avif", ".ico"),
)
"""Of all formats that are decoded: a picture that is not known as one would be passed over."""


class FolderRecords:
    """One record per picture: ``id`` and ``image``, its path in the folder, and ``answer``, the sub-folder's name.

    Args:
        folder: holds a sub-folder per class, with pictures at any depth; other files are left alone, and so is what
            programs put beside them: whatever begins with a dot, and ``__MACOSX``.
        root: where its pictures may lie; they lie in the folder.
        prefix: of the rows' names.

    Raises:
        UserError: there is no picture in a sub-folder, or a link to a folder, whose pictures would be missing.
    """

    def __init__(self, folder: Path, root: PictureRoots, prefix: str) -> None:
        self._folder, self._root, self._prefix = folder, root, prefix
        self._names = sorted(
            os.path.relpath(os.path.join(place, name), folder)
            for place, names in _walk(folder)
            for name in names
            if name.lower().endswith(PICTURE_SUFFIXES) and Path(place) != folder
        )
        if not self._names:
            raise UserError(
                f"path: the folder {folder} must hold a sub-folder of pictures per class, metadata.csv or "
                "metadata.jsonl with file_name, or files of rows of one kind; there is none of them."
            )

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Record:
        """The record at a position from 0, in the order of the paths."""
        name = self._names[index]
        path = os.path.abspath(os.path.join(self._folder, name))
        return {"id": self._prefix + name, "image": path, "answer": Path(name).parts[0]}

    def __iter__(self) -> Iterator[Record]:
        return (self[index] for index in range(len(self)))

    def place(self, index: int) -> Place:
        """Where it stands, counted in the order of the paths."""
        return Place(str(self._folder), index + 1, self._root, self._prefix + self._names[index])

    def fingerprint(self) -> str:
        """A SHA-256 of the paths."""
        return sha256("\n".join([self._prefix, *self._names]).encode()).hexdigest()


def is_made_by_a_program(name: str) -> bool:
    """Whether a name is of what file managers, notebooks and archives leave behind, as ``.ipynb_checkpoints``."""
    return name.startswith(".") or name == "__MACOSX"


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Every folder below a folder, itself included, and the names of its files."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_made_by_a_program(name)]
        link = next((name for name in folders if os.path.islink(os.path.join(place, name))), None)
        if link is not None:
            raise UserError(
                f"path: links to folders are not followed, and {folder} holds {os.path.join(place, link)}; put the "
                "folder itself there, or name its pictures in a metadata.csv."
            )
        yield place, [name for name in names if not is_made_by_a_program(name)]
