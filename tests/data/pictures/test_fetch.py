"""Fetching pictures from a server on this machine that also fails, stalls, lies and redirects."""

import errno
import hashlib
import json
import os
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from lmmcl.data.pictures import addresses
from lmmcl.data.pictures.fetch import Fetched, Wanted, fetch
from lmmcl.data.pictures.manners import Manners
from lmmcl.data.pictures.picture_store import picture_path
from lmmcl.errors import UserError

LOOPBACK = Manners(timeout=0.5, longest=1.5, pause=0.01, attempts=3, max_bytes=10_000, allow_private=True)


def body(path: str) -> bytes:
    return f"picture {path} ".encode() * 50


def wanted(address: str, path: str) -> Wanted:
    return Wanted(address + path, hashlib.sha256(body(path)).hexdigest())


class Server(ThreadingHTTPServer):
    """Answers by the first part of the path; counts and remembers requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked: Counter[str] = Counter()
        self.times: dict[str, list[float]] = {}
        self.agents: set[str] = set()
        self.under_way = self.most = 0
        self.lock = threading.Lock()
        self.release = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.asked[self.path] += 1
            self.server.times.setdefault(self.path, []).append(time.monotonic())
            self.server.agents.add(self.headers["User-Agent"])
            self.server.under_way += 1
            self.server.most = max(self.server.most, self.server.under_way)
        try:
            getattr(self, "_" + self.path.split("/")[1])()
        except ConnectionError:  # the client has gone
            pass
        finally:
            with self.server.lock:
                self.server.under_way -= 1

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def _send(self, code: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content_Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def _ok(self) -> None:
        self._send(200, body(self.path))

    def _gone(self) -> None:
        self._send(404)

    def _wrong(self) -> None:
        self._send(200, b"this photo is no longer available")

    def _busy(self) -> None:
        if self.server.asked[self.path] == 1:
            self._send(429, Retry_After="1")
        else:
            self._ok()

    def _closed(self) -> None:
        self._send(503, Retry_After="7200")

    def _shaky(self) -> None:
        if self.server.asked[self.path] < 3:
            self._send(503)
        else:
            self._ok()

    def _short(self) -> None:
        if self.server.asked[self.path] == 1:
            self._send(200, body(self.path)[:100], Content_Length=str(len(body(self.path))))
        else:
            self._ok()

    def _silent(self) -> None:
        self.server.release.wait(10)

    def _drip(self) -> None:
        self._send(200, b"x", Content_Length="1000")
        for _ in range(100):
            if self.server.release.wait(0.1):
                return
            self.wfile.write(b"x")

    def _large(self) -> None:
        self._send(200, b"x" * 20_000)

    def _endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(1000):
            self.wfile.write(b"x" * 10_000)

    def _moved(self) -> None:
        self._send(302, Location=self.path.replace("/moved/", "/ok/"))

    def _away(self) -> None:
        self._send(302, Location=f"{self.path.split('/')[2]}://server.example/photo.jpg")

    def _slowly(self) -> None:
        time.sleep(0.05)
        self._ok()

    def _held(self) -> None:
        self.server.release.wait(10)
        self._ok()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.release.set()
        running.shutdown()
        thread.join()


def partials(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "partial").glob("*"))


def reason_of(result: Fetched) -> str:
    (failure,) = result.failures
    return failure.reason


def test_pictures_lie_under_their_hashes_and_hold_what_was_served(server: Server, tmp_path: Path) -> None:
    pictures = [wanted(server.address, f"/ok/{place}/photo.jpg") for place in range(20)]
    result = fetch(pictures, tmp_path, LOOPBACK)
    assert (result.fetched, result.present, result.failures) == (20, 0, ())
    for place, picture in enumerate(pictures):
        assert picture_path(tmp_path, picture.sha256).read_bytes() == body(f"/ok/{place}/photo.jpg")
    assert partials(tmp_path) == []
    assert result.listed.read_text() == ""


def test_two_pictures_of_one_name_do_not_overwrite_each_other(server: Server, tmp_path: Path) -> None:
    train, test = wanted(server.address, "/ok/train/1.jpg"), wanted(server.address, "/ok/test/1.jpg")
    fetch([train, test], tmp_path, LOOPBACK)
    assert picture_path(tmp_path, train.sha256).read_bytes() == body("/ok/train/1.jpg")
    assert picture_path(tmp_path, test.sha256).read_bytes() == body("/ok/test/1.jpg")


def test_a_picture_that_several_rows_want_is_asked_for_once(server: Server, tmp_path: Path) -> None:
    picture = wanted(server.address, "/ok/shared.jpg")
    assert fetch([picture] * 5, tmp_path, LOOPBACK).fetched == 1
    assert server.asked["/ok/shared.jpg"] == 1


def test_what_is_there_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    pictures = [wanted(server.address, f"/ok/{place}.jpg") for place in range(3)]
    fetch(pictures[:2], tmp_path, LOOPBACK)
    result = fetch(pictures, tmp_path, LOOPBACK)
    assert (result.fetched, result.present) == (1, 2)
    assert set(server.asked.values()) == {1}


def test_a_missing_picture_is_listed_and_not_asked_for_twice(server: Server, tmp_path: Path) -> None:
    gone, there = wanted(server.address, "/gone/1.jpg"), wanted(server.address, "/ok/1.jpg")
    result = fetch([gone, there], tmp_path, LOOPBACK)
    assert (result.fetched, len(result.failures)) == (1, 1)
    assert json.loads(result.listed.read_text()) == {
        "url": gone.url,
        "sha256": gone.sha256,
        "reason": "HTTP 404 Not Found",
    }
    assert server.asked["/gone/1.jpg"] == 1


def test_a_picture_with_another_hash_is_refused(server: Server, tmp_path: Path) -> None:
    picture = wanted(server.address, "/wrong/1.jpg")
    result = fetch([picture], tmp_path, LOOPBACK)
    assert "the picture there is another one" in reason_of(result)
    assert not picture_path(tmp_path, picture.sha256).exists()
    assert partials(tmp_path) == []


def test_failures_of_an_earlier_run_are_asked_for_again(server: Server, tmp_path: Path) -> None:
    picture = wanted(server.address, "/ok/later.jpg")
    assert fetch([Wanted(server.address + "/gone/", picture.sha256)], tmp_path, LOOPBACK).failures
    result = fetch([picture], tmp_path, LOOPBACK)
    assert (result.fetched, result.listed.read_text()) == (1, "")


@pytest.mark.parametrize("path", ["/shaky/1.jpg", "/short/1.jpg"])
def test_what_may_pass_is_asked_for_again(server: Server, tmp_path: Path, path: str) -> None:
    assert fetch([wanted(server.address, path)], tmp_path, LOOPBACK).fetched == 1
    assert server.asked[path] == (3 if "shaky" in path else 2)


def test_the_number_of_attempts_is_kept(server: Server, tmp_path: Path) -> None:
    result = fetch([wanted(server.address, "/silent/1.jpg")], tmp_path, LOOPBACK)
    assert "timed out" in reason_of(result)
    assert server.asked["/silent/1.jpg"] == 3


def test_all_requests_to_a_host_wait_as_long_as_it_asks(server: Server, tmp_path: Path) -> None:
    pictures = [wanted(server.address, path) for path in ("/busy/1.jpg", "/slowly/2.jpg", "/slowly/3.jpg")]
    manners = Manners(per_host=1, pause=0.01, allow_private=True)
    assert fetch(pictures, tmp_path, manners).fetched == 3
    first, second = server.times["/busy/1.jpg"]
    assert second - first >= 1.0
    assert all(server.times[path][0] >= second for path in ("/slowly/2.jpg", "/slowly/3.jpg"))


def test_a_host_that_asks_for_hours_is_left(server: Server, tmp_path: Path) -> None:
    result = fetch([wanted(server.address, "/closed/1.jpg")], tmp_path, LOOPBACK)
    assert reason_of(result) == "HTTP 503 Service Unavailable, to be asked again in 7200 s"
    assert server.asked["/closed/1.jpg"] == 1


def test_nothing_more_is_asked_of_a_host_that_was_left(server: Server, tmp_path: Path) -> None:
    pictures = [wanted(server.address, f"/closed/{place}.jpg") for place in range(50)]
    result = fetch(pictures, tmp_path, LOOPBACK)
    assert {failure.reason for failure in result.failures} == {
        "HTTP 503 Service Unavailable, to be asked again in 7200 s"
    }
    assert len(result.failures) == 50
    assert sum(server.asked.values()) <= LOOPBACK.per_host


def test_the_addresses_of_a_picture_are_tried_in_turn(server: Server, tmp_path: Path) -> None:
    there, gone = wanted(server.address, "/ok/1.jpg"), wanted(server.address, "/gone/3.jpg")
    same = [Wanted(server.address + path, there.sha256) for path in ("/gone/1.jpg", "/wrong/1.jpg")]
    never = [Wanted(server.address + "/gone/2.jpg", gone.sha256), gone]
    said: list[tuple[int, int, int]] = []
    pictures = [*same, there, Wanted(server.address + "/gone/last.jpg", there.sha256), *never]
    result = fetch(pictures, tmp_path, LOOPBACK, lambda *counts: said.append(counts))
    assert (result.fetched, [failure.url for failure in result.failures]) == (1, [gone.url])
    paths = ("/gone/1.jpg", "/wrong/1.jpg", "/ok/1.jpg", "/gone/2.jpg", "/gone/3.jpg")
    assert server.asked == dict.fromkeys(paths, 1)
    assert [(done, total) for done, _, total in said] == [(1, 2), (2, 2)]


def test_a_slow_answer_ends_after_the_longest_time(server: Server, tmp_path: Path) -> None:
    start = time.monotonic()
    result = fetch([wanted(server.address, "/drip/1.jpg")], tmp_path, LOOPBACK)
    assert reason_of(result) == "it took longer than 1.5 s"
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("path", ["/large/1.jpg", "/endless/1.jpg"])
def test_a_picture_that_is_too_large_is_refused(server: Server, tmp_path: Path, path: str) -> None:
    result = fetch([wanted(server.address, path)], tmp_path, LOOPBACK)
    assert reason_of(result) == "it is larger than 10000 bytes"
    assert partials(tmp_path) == []


def test_a_redirect_is_followed(server: Server, tmp_path: Path) -> None:
    picture = Wanted(server.address + "/moved/1.jpg", hashlib.sha256(body("/ok/1.jpg")).hexdigest())
    assert fetch([picture], tmp_path, LOOPBACK).fetched == 1


@pytest.mark.parametrize("scheme", ["file", "ftp", "data"])
def test_a_redirect_off_the_web_is_refused(server: Server, tmp_path: Path, scheme: str) -> None:
    result = fetch([wanted(server.address, f"/away/{scheme}/1.jpg")], tmp_path, LOOPBACK)
    assert "not allowed" in reason_of(result) or "only http and https" in reason_of(result)
    assert sum(server.asked.values()) == 1


def test_a_redirect_to_a_private_address_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([True, False])  # the first look is at the server, the second at where it leads
    monkeypatch.setattr(addresses, "is_public", lambda address: next(answers))
    result = fetch([wanted(server.address, "/moved/1.jpg")], tmp_path, Manners())
    assert reason_of(result) == "127.0.0.1 is an address of this machine or of a private network"
    assert server.asked == {"/moved/1.jpg": 1}


def test_private_addresses_are_refused_unless_allowed(server: Server, tmp_path: Path) -> None:
    result = fetch([wanted(server.address, "/ok/1.jpg")], tmp_path, Manners())
    assert reason_of(result) == "127.0.0.1 is an address of this machine or of a private network"
    assert not server.asked


def test_a_hash_that_is_a_path_is_refused(server: Server, tmp_path: Path) -> None:
    result = fetch([Wanted(server.address + "/ok/1.jpg", "../../outside")], tmp_path / "folder", LOOPBACK)
    assert "its hash is no SHA-256" in reason_of(result)
    assert not server.asked


def test_no_host_is_asked_more_often_at_a_time_than_is_polite(server: Server, tmp_path: Path) -> None:
    pictures = [wanted(server.address, f"/slowly/{place}.jpg") for place in range(12)]
    fetch(pictures, tmp_path, Manners(threads=8, per_host=3, allow_private=True))
    assert server.most == 3


def test_requests_say_who_asks(server: Server, tmp_path: Path) -> None:
    fetch([wanted(server.address, "/ok/1.jpg")], tmp_path, LOOPBACK)
    (agent,) = server.agents
    assert agent.startswith("lmmcl/")


def test_an_interrupt_keeps_what_is_done_and_the_next_run_goes_on(server: Server, tmp_path: Path) -> None:
    pictures = [wanted(server.address, f"/ok/{place}.jpg") for place in range(5)]
    pictures += [wanted(server.address, f"/held/{place}.jpg") for place in range(5)]

    def interrupt(done: int, failed: int, total: int) -> None:
        if done == 5:
            server.release.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(pictures, tmp_path, Manners(per_host=1, allow_private=True), interrupt)
    there = [picture for picture in pictures if picture_path(tmp_path, picture.sha256).exists()]
    assert there == pictures[:5]
    assert partials(tmp_path) == []
    server.asked.clear()
    result = fetch(pictures, tmp_path, LOOPBACK)
    assert (result.fetched, result.present, result.failures) == (5, 5, ())
    assert set(server.asked) == {f"/held/{place}.jpg" for place in range(5)}


def test_what_a_killed_run_left_half_written_is_never_taken_for_a_picture(
    server: Server, tmp_path: Path
) -> None:
    picture = wanted(server.address, "/ok/1.jpg")
    (tmp_path / "partial").mkdir()
    old, new = tmp_path / "partial" / "old", tmp_path / "partial" / "new"
    for partial in (old, new):
        partial.write_bytes(body("/ok/1.jpg")[:10])
    os.utime(old, (0, 0))
    assert fetch([picture], tmp_path, LOOPBACK).fetched == 1
    assert partials(tmp_path) == ["new"]


@pytest.mark.parametrize(
    ("code", "way"),
    [
        *((code, "make room there") for code in (errno.ENOSPC, errno.EDQUOT)),
        *((code, "allow writing there") for code in (errno.EACCES, errno.EPERM, errno.EROFS)),
        (errno.EIO, "repair that"),
    ],
)
@pytest.mark.parametrize("place", [(tempfile, "mkstemp"), (os, "fsync"), (os, "replace"), (Path, "mkdir")])
def test_a_failure_of_the_disk_is_one_error_at_once(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    way: str,
    place: tuple[Any, str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    (tmp_path / "partial").mkdir()
    pictures = [wanted(server.address, f"/ok/{number}.jpg") for number in range(5)]
    monkeypatch.setattr(*place, fail)
    with pytest.raises(
        UserError, match=rf"cannot take pictures \({os.strerror(code)}\); {way}, or give another"
    ):
        fetch(pictures, tmp_path, replace(LOOPBACK, pause=60.0))
    assert set(server.asked.values()) <= {1}
    monkeypatch.undo()
    assert partials(tmp_path) == []
    assert fetch(pictures, tmp_path, LOOPBACK).fetched == 5


def test_a_network_that_permits_nothing_is_not_taken_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", forbidden)
    result = fetch([Wanted("http://127.0.0.1:9/1.jpg", "0" * 64)], tmp_path, LOOPBACK)
    assert "Permission denied" in reason_of(result)


def test_a_folder_that_cannot_be_made_is_an_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot take pictures"):
        fetch([wanted(server.address, "/ok/1.jpg")], tmp_path / "file" / "folder", LOOPBACK)


def test_progress_counts_every_picture(server: Server, tmp_path: Path) -> None:
    said: list[tuple[int, int, int]] = []
    pictures = [wanted(server.address, path) for path in ("/ok/1.jpg", "/gone/2.jpg", "/ok/3.jpg")]
    fetch(pictures, tmp_path, LOOPBACK, lambda *counts: said.append(counts))
    assert [done for done, _, _ in said] == [1, 2, 3]
    assert said[-1] == (3, 1, 3)


@pytest.mark.parametrize("key", ["threads", "per_host", "attempts", "max_bytes", "timeout", "longest"])
def test_manners_out_of_range_are_refused(key: str) -> None:
    with pytest.raises(UserError, match=f"fetch: {key} must be"):
        Manners(**{key: 0})  # type: ignore[arg-type]  # every one is a number
