"""Ends this process when another one of its run dies: it would wait for that one in a collective, perhaps for ever."""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import platform
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lmmcl.errors import UserError

GRACE_SECONDS = 10.0
"""For which this process may still end by itself after another has failed: as a rule it meets the same error."""
_REACH_SECONDS = 30.0
_NEWS_SECONDS = 1.0
"""An error of a collective may come a moment before the news of the dead process that caused it."""
_BACKLOG = 4096
"""Connections that wait until all others have tried; Python's own 128 would turn away the rest of a large run."""
_SILENCE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 6, "TCP_USER_TIMEOUT": 40_000}
"""The kernels notice a machine that is gone after 40 seconds, however busy its processes were."""

_connections: set[socket.socket] = set()


def _leave_to_parent() -> None:
    """A forked process shares the connections: open there, they would outlive the process whose they are."""
    while _connections:
        _connections.pop().close()


os.register_at_fork(after_in_child=_leave_to_parent)


@dataclass(eq=False)
class _Peer:
    """Another process, at the other end of a connection."""

    rank: int
    who: str
    connection: socket.socket
    left: bool = False
    unread: bytes = b""

    def tell(self, **message: Any) -> None:
        with contextlib.suppress(OSError):  # it has left
            self.connection.sendall(json.dumps(message).encode() + b"\n")

    def hear(self) -> tuple[list[dict[str, Any]], bool]:
        """What it has said since, and whether it is still there."""
        try:
            data = self.connection.recv(1 << 16)
        except OSError:
            data = b""
        *lines, self.unread = (self.unread + data).split(b"\n")
        return [json.loads(line) for line in lines], bool(data)


class Peers:
    """The processes of a run, each connected with the first one; where one dies, its system closes the connection.

    However it dies: killed, out of memory, aborted by a library. Nothing is asked of a process that is merely busy, so
    that none is taken for dead. One that leaves says so, and if it is by an error, by which: the others then have some
    seconds to meet it, too. The first process speaks for all; where it is the one that died, the second.

    Args:
        advice: last sentence of what is said, on how to go on.
        before_exit: what is to be done before this process ends itself; it is told which other one died or failed.
    """

    def __init__(self, advice: str, before_exit: Callable[[int], None] = lambda rank: None) -> None:
        self._advice, self._before_exit = advice, before_exit
        self._rank = 0
        self._peers: list[_Peer] = []
        self._bell: tuple[socket.socket, socket.socket] | None = None
        self._thread: threading.Thread | None = None
        self._deadline: tuple[float, int, str] | None = None
        self._ending = threading.Lock()

    def begin(self, rank: int, address: str, exchange: Callable[[Any], list[Any]]) -> list[int]:
        """Connects the processes; collective.

        Args:
            rank: of this process.
            address: under which other machines reach the first process.
            exchange: gives what every process gave it, by rank; a collective.

        Returns:
            ranks of those that do not reach the first process: their death will not be noticed.
        """
        self._rank = rank
        everybody = exchange((platform.node(), f"pid {os.getpid()} on {platform.node()}"))
        at_home = len({host for host, _ in everybody}) == 1
        server = _serve(at_home) if rank == 0 else None
        port, key = exchange((server.getsockname()[1] if server else 0, secrets.token_hex(16)))[0]
        place = ("127.0.0.1" if at_home else address, port)
        connection = None if rank == 0 else _reach(place, f"{key} {rank}")
        reached = exchange(connection is not None)
        found = {} if connection is None else {0: connection}
        if server is not None:
            with server:
                found = _welcome(server, key, sum(reached))
        watched = {0, *exchange(sorted(found))[0]}
        if rank not in watched and connection is not None:  # whoever answered was not the first process
            connection.close()
            found = {}
        self._peers = [_Peer(other, everybody[other][1], line) for other, line in sorted(found.items())]
        if self._peers:
            self._bell = socket.socketpair()
            _connections.update((*self._bell, *found.values()))
            self._thread = threading.Thread(target=self._watch, name="lmmcl-peers", daemon=True)
            self._thread.start()
        return [other for other in range(len(everybody)) if other not in watched]

    def leave(self, error: BaseException | None = None) -> None:
        """Tells the others that this process leaves, by an error or in order, and watches no longer.

        Where the error comes from a dead process, this one ends here, as if it had noticed before.
        """
        if self._thread is None or self._bell is None:
            return
        if isinstance(error, Exception) and not isinstance(error, UserError):
            time.sleep(_NEWS_SECONDS)
        reason = "" if error is None or isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
        with self._ending:  # never returns where the thread ends this process
            for peer in self._peers:
                peer.tell(left=" ".join(reason.split()))
            self._bell[0].close()
        self._thread.join()
        for line in (self._bell[1], *(peer.connection for peer in self._peers)):
            line.close()
        _connections.clear()
        self._thread, self._bell, self._peers, self._deadline = None, None, [], None

    def _watch(self) -> None:
        assert self._bell is not None
        with selectors.DefaultSelector() as lines:
            lines.register(self._bell[1], selectors.EVENT_READ)
            for peer in self._peers:
                lines.register(peer.connection, selectors.EVENT_READ, peer)
            while True:
                patience = None if self._deadline is None else max(0.0, self._deadline[0] - time.monotonic())
                ready = [key for key, _ in lines.select(patience)]
                if any(key.data is None for key in ready):
                    return
                if not ready and self._deadline is not None:
                    self._end(*self._deadline[1:])
                for peer in (key.data for key in ready):
                    if not self._hear(peer):
                        lines.unregister(peer.connection)

    def _hear(self, peer: _Peer) -> bool:
        """Acts on what another process says; whether there is more to hear from it."""
        messages, there = peer.hear()
        for message in messages:
            if "ended" in message:
                self._end(message["ended"])
            peer.left = True
            if message["left"] and self._deadline is None:
                said = (
                    f"process {peer.rank} ({peer.who}) failed, and the others wait for it: {message['left']}"
                )
                self._deadline = time.monotonic() + GRACE_SECONDS, peer.rank, said
        if not there and not peer.left:
            self._end(
                peer.rank,
                f"process {peer.rank} ({peer.who}) died: it was killed, or its machine is out of memory or gone (see "
                "dmesg). The others would wait for it for ever, and end, too",
            )
        return there

    def _end(self, rank: int, said: str | None = None) -> None:
        """Ends this process, in whatever collective it waits, for the sake of another; None: somebody else says why."""
        with self._ending:
            for peer in self._peers:
                peer.tell(ended=rank)
            speaks = self._rank < 2 or os.environ.get("LOCAL_RANK") == "0"
            if said is not None and speaks:
                shown = "\x1b[?25h\n" if os.isatty(2) else ""  # a progress bar may hide the cursor
                os.write(2, f"{shown}lmmcl: error: {said.rstrip('.')}. {self._advice}\n".encode())
            try:
                self._before_exit(rank)
            finally:
                os._exit(1)


def _serve(at_home: bool) -> socket.socket | None:
    """Where the first process is reached, from this machine or from all; None where no port is free."""
    with contextlib.suppress(OSError):
        if at_home:
            return socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        if socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", 0), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True
            )
        return socket.create_server(("", 0), backlog=_BACKLOG)
    return None


def _reach(address: tuple[str, int], greeting: str) -> socket.socket | None:
    """A connection to the first process; None where there is no way to it."""
    try:
        connection = socket.create_connection(address, timeout=_REACH_SECONDS)
    except OSError:
        return None
    _keep(connection)
    connection.sendall(greeting.encode() + b"\n")
    return connection


def _welcome(server: socket.socket, key: str, number: int) -> dict[int, socket.socket]:
    """The connections of all other processes, by rank; who does not know the key is sent away."""
    found: dict[int, socket.socket] = {}
    until = time.monotonic() + _REACH_SECONDS
    while len(found) < number and (left := until - time.monotonic()) > 0:
        server.settimeout(left)
        with contextlib.suppress(OSError, ValueError):
            connection, _ = server.accept()
            connection.settimeout(left)
            greeting = b""
            while not greeting.endswith(b"\n") and len(greeting) < 100 and (more := connection.recv(1)):
                greeting += more
            given, _, rank = greeting.decode(errors="replace").partition(" ")
            if not hmac.compare_digest(given.encode(), key.encode()):
                connection.close()
                continue
            _keep(connection)
            found[int(rank)] = connection
    return found


def _keep(connection: socket.socket) -> None:
    """Makes the system ask whether the other machine is still there, where it knows how to."""
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _SILENCE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
