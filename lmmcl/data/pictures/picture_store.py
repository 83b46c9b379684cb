"""A folder that is addressed by content: every picture lies under its SHA-256, ``<folder>/ab/abcd...``.

No two pictures overwrite each other, whatever their addresses end with. A file gets its name only when it is whole and
on disk: a kill, or a loss of power, leaves nothing half-written there.
"""

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time

from lmmcl.errors import UserError

PARTIAL = "partial"
STALE_SECONDS = 24 * 3600
"""Age from which a partial file is what a killed run left."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_WAYS_OUT = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room there"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "allow writing there"),
}


def is_sha256(text: str) -> bool:
    """Whether a text is a hash as it is written here: 64 hexadecimal digits in small letters."""
    return _SHA256.fullmatch(text) is not None


def picture_path(folder: Path, sha256: str) -> Path:
    """Where the picture of a hash lies.

    Raises:
        ValueError: it is no hash; as a path it could lead anywhere.
    """
    if not is_sha256(sha256):
        raise ValueError(f"a hash must be 64 hexadecimal digits in small letters, got {sha256[:80]!r}")
    return folder / sha256[:2] / sha256


class PictureStore:
    """The folder, to be written to; a failure of its disk is one error at once, as no picture can be kept then.

    Args:
        folder: made if need be; what killed runs left half-written in it is removed.

    Raises:
        UserError: it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with self.naming_errors():
            (folder / PARTIAL).mkdir(parents=True, exist_ok=True)
            _clear_stale(folder / PARTIAL)

    def holds(self, sha256: str) -> bool:
        """Whether the picture is there; of what is no hash, none is."""
        return is_sha256(sha256) and picture_path(self._folder, sha256).is_file()

    @contextmanager
    def incoming(self) -> Iterator["Incoming"]:
        """A new file to write a picture to, which is gone afterwards unless it was kept.

        Raises:
            UserError: the disk takes no more.
        """
        with self.naming_errors():
            handle, name = tempfile.mkstemp(dir=self._folder / PARTIAL)
        incoming = Incoming(self, handle, Path(name))
        try:
            yield incoming
        finally:
            incoming.drop()

    def note(self, name: str, text: str) -> Path:
        """Writes a text beside the pictures, in one step.

        Raises:
            UserError: the disk takes no more.
        """
        file = self._folder / name
        partial = file.with_suffix(".new")
        with self.naming_errors():
            partial.write_text(text, encoding="utf-8")
            partial.replace(file)
        return file

    def path(self, sha256: str) -> Path:
        """See `picture_path`."""
        return picture_path(self._folder, sha256)

    @contextmanager
    def naming_errors(self) -> Iterator[None]:
        """Makes of any failure of the disk one error that names the folder and the way out."""
        try:
            yield
        except OSError as error:
            way = _WAYS_OUT.get(error.errno or 0, "repair that")
            raise UserError(
                f"fetch: {self._folder} cannot take pictures ({error.strerror or error}); {way}, or give another "
                "--root."
            ) from error


class Incoming:
    """A picture on its way to its place; made by `PictureStore.incoming`.

    Args:
        store: where it goes.
        handle: of the open file.
        partial: the file.
    """

    def __init__(self, store: PictureStore, handle: int, partial: Path) -> None:
        self._store, self._partial = store, partial
        self._file = os.fdopen(handle, "wb")
        self._digest = hashlib.sha256()
        self.size = 0
        """Bytes so far."""

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._digest.hexdigest()

    def write(self, block: bytes) -> None:
        """Adds to the end.

        Raises:
            UserError: the disk takes no more.
        """
        self.size += len(block)
        self._digest.update(block)
        with self._store.naming_errors():
            self._file.write(block)

    def keep(self) -> None:
        """Puts it in its place, whole and on disk.

        Raises:
            UserError: the disk takes no more.
        """
        place = self._store.path(self.sha256)
        with self._store.naming_errors():
            self._file.flush()
            # Before the rename: after a loss of power, the name could else stand for an empty file.
            os.fsync(self._file.fileno())
            place.parent.mkdir(exist_ok=True)
            self._partial.chmod(0o644)  # as any new file: mkstemp makes it its owner's alone
            os.replace(self._partial, place)

    def drop(self) -> None:
        """Closes it, and removes what was not kept."""
        with suppress(OSError):  # what a full disk did not take is lost anyway
            self._file.close()
        with suppress(OSError):
            self._partial.unlink(missing_ok=True)


def _clear_stale(folder: Path) -> None:
    for partial in folder.glob("*"):
        with suppress(FileNotFoundError):  # another run has just put it in its place
            if time() - partial.stat().st_mtime > STALE_SECONDS:
                partial.unlink()
