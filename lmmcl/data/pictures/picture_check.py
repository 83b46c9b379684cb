"""Decodes pictures once to know which ones are broken, and remembers what it found."""

import errno
import fcntl
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import IO, Self

import PIL

from lmmcl.data.bad_row import RowError
from lmmcl.data.files.cache_folder import cache_folder
from lmmcl.data.pictures.picture import FORMATS, MAX_PIXELS, open_picture
from lmmcl.data.row import ImageSource
from lmmcl.errors import UserError

log = logging.getLogger(__name__)

NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
"""Errors of a path that names no file, which are its row's."""


class PictureCheck:
    """Says which pictures are not there or cannot be decoded.

    Every picture is opened just as training opens it, by as many threads as there are cores. What comes out is kept in
    the cache folder under the picture's path, what tells that it changed, and what reads it (another Pillow may read
    what this one cannot), block by block: an interrupted check goes on where it was, a second process waits for the
    first and takes its verdicts, and a resumed run has them. To be used in a ``with``.

    Args:
        name: pictures of one name share a file of verdicts.
    """

    def __init__(self, name: str) -> None:
        self._file = cache_folder("pictures") / sha256(name.encode()).hexdigest()
        self._known: dict[str, str] = {}
        self._kept: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._kept = self._file.open("a+", encoding="utf-8")
            fcntl.flock(self._kept, fcntl.LOCK_EX)
        except OSError as error:
            log.warning(
                "%s cannot be written or locked (%s): pictures are checked at every start; set XDG_CACHE_HOME.",
                self._file,
                error,
            )
            self.__exit__()
            return self
        self._kept.seek(0)
        for line in self._kept:
            key, tab, reason = line.partition("\t")
            if tab and reason.endswith("\n"):  # a process that was killed may have left half a line
                self._known[key] = reason[:-1]
        return self

    def __exit__(self, *_: object) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def reasons(self, pictures: Sequence[ImageSource]) -> list[str]:
        """What is wrong with each picture; empty for a good one, and for one in memory.

        Args:
            pictures: a block of them; their verdicts are written together.

        Raises:
            UserError: the disk failed.
        """
        keys = [_key(picture) for picture in pictures]
        new = {key: one for key, one in zip(keys, pictures, strict=True) if key and key not in self._known}
        with ThreadPoolExecutor(_cores()) as threads:
            found = dict(zip(new, threads.map(_reason, new.values()), strict=True))
        if found and self._kept is not None:
            self._kept.write("".join(f"\n{key}\t{reason}" for key, reason in found.items()) + "\n")
            self._kept.flush()
        self._known |= found
        return [self._known.get(key, "") for key in keys]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _key(picture: ImageSource) -> str:
    identity = getattr(picture, "identity", None)
    if identity is None:
        return ""
    read_by = f"{PIL.__version__} {FORMATS} {MAX_PIXELS} {getattr(picture, 'roots', ())}"
    return sha256(f"{read_by} {identity()}".encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _reason(picture: ImageSource) -> str:
    try:
        open_picture(picture, getattr(picture, "where", ""))
    except RowError as error:
        # The disk's failure is not the picture's: a verdict of it would leave out a good row for ever.
        if isinstance(error.__cause__, OSError) and error.__cause__.errno not in (None, *NO_FILE):
            raise
        return " ".join(error.reason.split())
    except UserError as error:
        return " ".join(str(error).split())
    return ""
