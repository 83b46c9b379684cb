"""Ends the connections of one download when its time is over, wherever it stands: connecting, headers, redirects."""

import socket
import threading
from contextlib import suppress
from http.client import HTTPException
from time import monotonic
from types import TracebackType
from typing import Self

from lmmcl.data.pictures.addresses import RefusedError


class Deadline:
    """The time that one download may take in all; to be used in a ``with``, which says so when it was too long.

    A limit of silence alone does not end a server that sends a byte now and then, of a header for example.

    Args:
        seconds: from the entry on, above 0.
        stop: set by whoever ends all downloads; looked at by `check`.
    """

    def __init__(self, seconds: float, stop: threading.Event | None = None) -> None:
        self._seconds, self._stop = seconds, stop or threading.Event()
        self._end = monotonic() + seconds
        self._connections: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._shut)
        self._timer.daemon = True

    @property
    def left(self) -> float:
        """Seconds until the end, at least a thousandth, as no socket takes 0 for a limit."""
        return max(0.001, self._end - monotonic())

    def watch(self, connection: socket.socket) -> None:
        """Takes a connection that is to be shut at the end; what is made of it later (TLS) ends with it."""
        with self._lock:
            self._connections.append(connection.dup())
        if monotonic() >= self._end:
            self._shut()

    def check(self) -> None:
        """Raises RefusedError once the time is over, or all is to stop."""
        if self._stop.is_set() or monotonic() >= self._end:
            raise RefusedError(f"it took longer than {self._seconds:g} s")

    def __enter__(self) -> Self:
        self._end = monotonic() + self._seconds
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
        # What a shut connection makes of a read is no news: that it was shut is.
        if not isinstance(error, RefusedError) and (
            error is None or isinstance(error, OSError | HTTPException)
        ):
            self._refuse_late(error)

    def _refuse_late(self, error: BaseException | None) -> None:
        if monotonic() >= self._end:
            raise RefusedError(f"it took longer than {self._seconds:g} s") from error

    def _shut(self) -> None:
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):  # it has ended by itself
                    connection.shutdown(socket.SHUT_RDWR)
