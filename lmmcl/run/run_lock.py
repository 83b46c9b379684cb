"""One process writes a run: its folder is locked for as long as the process lives and fits."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import time
import warnings
from pathlib import Path

from lmmcl.errors import UserError
from lmmcl.run.checkpoint import naming_disk_errors

LOCK = ".lock"
_PATIENCE_SECONDS = 1.0
"""How long a lock is tried for: who only looks at it, as a sweep does, holds it for an instant."""
_LOOK_SECONDS = 0.02

_held: set[int] = set()


def _leave_to_parent() -> None:
    """A forked process shares the lock: left open there, it would outlive the process that holds it."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_leave_to_parent)


class RunLock:
    """The lock of a run's folder: a file in it while it is held.

    The system gives the lock back when its holder ends, however it ends; a file that a kill left behind locks nothing.
    """

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self._path = Path()
        self._made: list[Path] = []

    def take(self, run: Path, write: bool = True) -> None:
        """Takes the lock.

        A file system without locks is told of once, and the run goes on.

        Args:
            run: folder of the run, made if it is not there.
            write: False on all processes but the first, for which there is nothing to do.

        Raises:
            UserError: another process holds it; or the folder cannot be written to.
        """
        if not write or self._descriptor is not None:
            return
        self._path = run / LOCK
        self._made = [path for path in (run, *run.parents) if not path.exists()]
        until = time.monotonic() + _PATIENCE_SECONDS
        while self._descriptor is None:
            with naming_disk_errors(self._path):
                run.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                if time.monotonic() < until:
                    time.sleep(_LOOK_SECONDS)
                    continue
                raise UserError(
                    f"run: another process ({_named(self._path)}) writes {run}; wait for it or stop it, or choose "
                    "another folder with --run."
                ) from None
            except OSError as error:
                warnings.warn(
                    f"{run} lies on a file system without locks ({error.strerror}): see to it that no other process "
                    "writes this run.",
                    stacklevel=2,
                )
            if not _is_at(descriptor, self._path):  # its former holder has just removed it
                os.close(descriptor)
                continue
            self._descriptor = descriptor
            _held.add(descriptor)
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, f"pid {os.getpid()} on {platform.node()}".encode())

    def release(self) -> None:
        """Gives it back, and leaves nothing where nothing else was written."""
        if self._descriptor in _held:  # not in a forked process
            self._path.unlink(missing_ok=True)  # while it is held: see `_is_at`
            _held.remove(self._descriptor)
            os.close(self._descriptor)
            with contextlib.suppress(OSError):  # the run is in it
                for path in self._made:
                    path.rmdir()
        self._descriptor = None


def holder(run: Path) -> str | None:
    """The process that writes a run, in words; None: there is none, or the file system has no locks."""
    path = run / LOCK
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _named(path)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one at the path."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def _named(path: Path) -> str:
    try:
        return path.read_text().strip() or "it does not say which"
    except OSError:
        return "it does not say which"
