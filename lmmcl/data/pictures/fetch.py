"""Fetches pictures that a data set names by address and hash into a folder that is addressed by content.

A picture that several rows share is fetched once, and stands in its place only after its hash was checked; an
interrupted run leaves nothing half-written there, and the next one goes on.
"""

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

from lmmcl.data.pictures.addresses import RefusedError
from lmmcl.data.pictures.deadline import Deadline
from lmmcl.data.pictures.manners import Manners
from lmmcl.data.pictures.picture_store import PictureStore, is_sha256
from lmmcl.data.pictures.web import TransientError, open_url
from lmmcl.redaction import without_secrets

CHUNK = 1 << 16
FAILURES = "failures.jsonl"


@dataclass(frozen=True)
class Wanted:
    """A picture to fetch.

    Args:
        url: its address, http or https.
        sha256: of its bytes, 64 hexadecimal digits in small letters.
    """

    url: str
    sha256: str


@dataclass(frozen=True)
class Failure:
    """A picture that could not be fetched, and why; of several addresses, the last one tried and what it said."""

    url: str
    sha256: str
    reason: str


@dataclass(frozen=True)
class Fetched:
    """What a run of `fetch` did.

    Args:
        fetched: pictures that are new.
        present: pictures that were there already.
        failures: pictures that are not there, in the order of their addresses.
        listed: file that lists the failures, one JSON object a line; empty when there are none.
    """

    fetched: int
    present: int
    failures: tuple[Failure, ...]
    listed: Path


def fetch(
    wanted: Iterable[Wanted],
    folder: Path,
    manners: Manners | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> Fetched:
    """Fetches what is not there yet.

    Every host has a queue of its own and at most ``per_host`` requests under way, so that a slow host does not keep
    the others waiting; when one asks for a pause, all requests to it pause, and one that asks for too long a pause is
    asked nothing more. A picture with several addresses is asked for at the next one where the one before fails.

    Args:
        wanted: the pictures; several rows may want the same one, also by different addresses.
        folder: where they go, made if need be; it also gets the list of failures.
        manners: how servers are asked.
        progress: called after every picture with how many are done, how many of them failed, and how many there are.

    Returns:
        What was done. A failure ends nothing: it is listed.

    Raises:
        UserError: the folder cannot be made, or its disk takes no more; nothing is asked for again then.
    """
    store = PictureStore(folder)
    unique: dict[str, dict[str, Wanted]] = {}
    for picture in wanted:
        unique.setdefault(picture.sha256, {})[picture.url] = picture
    missing = [list(same.values()) for sha256, same in unique.items() if not store.holds(sha256)]
    failures = _Run(missing, store, manners or Manners(), progress).run()
    told = (without_secrets(asdict(failure)) for failure in failures)  # signed addresses
    lines = "".join(json.dumps(failure, ensure_ascii=False) + "\n" for failure in told)
    listed = store.note(FAILURES, lines)
    return Fetched(len(missing) - len(failures), len(unique) - len(missing), failures, listed)


class _Host:
    """The pictures of one host, from when on it may be asked again, and why it is asked nothing more, if so."""

    def __init__(self) -> None:
        self.pictures: deque[Wanted] = deque()
        self.asks_until = 0.0
        self.left: str | None = None


class _Run:
    def __init__(
        self,
        missing: list[list[Wanted]],
        store: PictureStore,
        manners: Manners,
        progress: Callable[[int, int, int], None] | None,
    ) -> None:
        self._store, self._manners, self._progress = store, manners, progress
        self._total, self._done = len(missing), 0
        self._failures: list[Failure] = []
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._hosts: dict[str, _Host] = {}
        self._others: dict[str, deque[Wanted]] = {}
        """By hash, the addresses that were not tried yet."""
        for first, *others in missing:
            self._add(first)
            self._others[first.sha256] = deque(others)
        self._again: list[Wanted] = []
        """What is to be asked for at another address."""

    def run(self) -> tuple[Failure, ...]:
        self._round()
        while self._again:
            again, self._again = self._again, []
            for picture in again:
                self._add(picture)
            self._round()
        return tuple(sorted(self._failures, key=lambda failure: (failure.url, failure.sha256)))

    def _add(self, picture: Wanted) -> None:
        self._hosts.setdefault(_host_of(picture.url), _Host()).pictures.append(picture)

    def _round(self) -> None:
        """Asks for all pictures that are queued, each at one address."""
        hosts = sorted(self._hosts.values(), key=lambda host: len(host.pictures), reverse=True)
        with ThreadPoolExecutor(self._manners.threads, thread_name_prefix="fetch") as pool:
            servers: set[Future[None]] = {
                pool.submit(self._serve, host)
                for host in hosts
                for _ in range(min(self._manners.per_host, len(host.pictures)))
            }
            try:
                while servers:
                    ended, servers = wait(servers, timeout=0.5, return_when=FIRST_COMPLETED)
                    for server in ended:
                        server.result()
            except BaseException:  # an interrupt: what is under way is dropped, what is done stays
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _serve(self, host: _Host) -> None:
        """Fetches the pictures of a host one after the other; several threads may do so."""
        while not self._stop.is_set():
            try:
                picture = host.pictures.popleft()
            except IndexError:
                return
            reason = self._reason_against(picture, host)
            with self._lock:
                others = self._others[picture.sha256]
                if reason is not None and others:
                    self._again.append(others.popleft())
                    continue
                self._done += 1
                if reason is not None:
                    self._failures.append(Failure(picture.url, picture.sha256, reason))
                if self._progress is not None:
                    self._progress(self._done, len(self._failures), self._total)

    def _reason_against(self, picture: Wanted, host: _Host) -> str | None:
        """Fetches a picture, several times if need be; says why it cannot, or None."""
        if not is_sha256(picture.sha256):
            return f"its hash is no SHA-256: {picture.sha256[:80]!r}"
        pause, reason = self._manners.pause, "interrupted"
        for attempt in range(1, self._manners.attempts + 1):
            if self._stop.wait(max(0.0, host.asks_until - monotonic())):
                break
            if host.left is not None:
                return host.left
            asked = None
            try:
                _fetch_one(picture, self._store, self._manners, self._stop)
            except RefusedError as error:
                return str(error)
            except TransientError as error:
                reason, asked = str(error), error.after
            except (OSError, HTTPException) as error:  # of the network: the store's are errors of the user
                reason = f"{type(error).__name__}: {error}"
            else:
                return None
            if asked is not None and asked > self._manners.longest_pause:
                host.left = f"{reason}, to be asked again in {asked:.0f} s"
                return host.left
            if asked is not None:
                host.asks_until = max(host.asks_until, monotonic() + asked)
            elif attempt < self._manners.attempts and self._stop.wait(pause):
                break
            pause *= 2
        return reason


def _fetch_one(picture: Wanted, store: PictureStore, manners: Manners, stop: threading.Event) -> None:
    with store.incoming() as incoming:
        with (
            Deadline(manners.longest, stop) as deadline,
            open_url(picture.url, manners.timeout, deadline, allow_private=manners.allow_private) as answer,
        ):
            while block := answer.read1(CHUNK):
                deadline.check()
                incoming.write(block)
                if incoming.size > manners.max_bytes:
                    raise RefusedError(f"it is larger than {manners.max_bytes} bytes")
            announced = answer.headers.get("Content-Length", "")
            deadline.check()
            if announced.isdecimal() and incoming.size < int(announced):
                raise TransientError(f"it broke off after {incoming.size} of {announced} bytes")
        if incoming.sha256 != picture.sha256:
            raise RefusedError(f"the picture there is another one, its hash is {incoming.sha256}")
        incoming.keep()


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:  # not an address; asking for it says so
        return ""
