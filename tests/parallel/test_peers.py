"""A process whose peer dies ends and says which one it was; one that leaves in order ends nobody."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmmcl.parallel import peers
from lmmcl.parallel.peers import Peers

ROOT = Path(__file__).parents[2]


class Group:
    """Three processes that watch each other."""

    def __init__(self, folder: Path, world: int = 3) -> None:
        self._folder = folder
        words = [sys.executable, "-m", "tests.peer_process", str(folder)]
        self._processes = [
            subprocess.Popen(
                [*words, str(rank), str(world)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(world)
        ]
        self._wait_for(*(f"watches-{rank}" for rank in range(world)))

    def _wait_for(self, *names: str) -> None:
        until = time.monotonic() + 30
        while not all((self._folder / name).exists() for name in names):
            assert time.monotonic() < until, names
            time.sleep(0.005)

    def order(self, rank: int, what: str) -> None:
        (self._folder / f"new-{rank}").write_text(what)
        (self._folder / f"new-{rank}").rename(self._folder / f"order-{rank}")
        if what == "fork":
            self._wait_for(f"forked-{rank}")

    def kill(self, rank: int) -> None:
        self._processes[rank].kill()

    def ends(self, rank: int) -> tuple[int, str, str]:
        """Exit code, output and errors."""
        output, errors = self._processes[rank].communicate(timeout=30)
        return self._processes[rank].returncode, output, errors

    def runs(self, rank: int) -> bool:
        return self._processes[rank].poll() is None

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


def test_a_killed_process_ends_all_others_and_is_named_once(tmp_path: Path) -> None:
    with Group(tmp_path) as group:
        group.kill(2)
        began = time.monotonic()
        first, second = group.ends(0), group.ends(1)
        assert time.monotonic() - began < 5
        assert group.ends(2)[0] == -signal.SIGKILL
    assert first[0] == second[0] == 1
    assert [(tmp_path / f"ended-{rank}").read_text() for rank in range(2)] == ["2", "2"]
    pid = (tmp_path / "watches-2").read_text()
    assert first[2].startswith(
        f"lmmcl: error: process 2 (pid {pid} on {os.uname().nodename}) died: it was killed, "
    )
    assert first[2].endswith("Go on with --ckpt_path last.\n") and first[2].count("\n") == 1
    assert second[2] == ""


def test_where_the_first_process_dies_the_second_says_so(tmp_path: Path) -> None:
    with Group(tmp_path) as group:
        group.kill(0)
        others = [group.ends(rank) for rank in (1, 2)]
    assert [code for code, _, _ in others] == [1, 1]
    assert "process 0 (pid " in others[0][2] and others[1][2] == ""


def test_a_forked_worker_does_not_keep_its_dead_parent_alive(tmp_path: Path) -> None:
    with Group(tmp_path, 2) as group:
        group.order(1, "fork")
        began = time.monotonic()
        group.kill(1)
        code, _, errors = group.ends(0)
        assert time.monotonic() - began < 1.5  # the worker lives for 2 seconds
    assert code == 1 and "process 1 " in errors


def test_one_that_leaves_in_order_ends_nobody(tmp_path: Path) -> None:
    with Group(tmp_path) as group:
        group.order(0, "leave")
        assert group.ends(0) == (0, "left\n", "")
        group.order(1, "leave")
        assert group.ends(1) == (0, "left\n", "")
        time.sleep(0.3)
        assert group.runs(2)
        group.order(2, "leave")
        assert group.ends(2) == (0, "left\n", "")


def test_one_that_fails_alone_ends_the_others_after_a_while_with_its_error(tmp_path: Path) -> None:
    with Group(tmp_path) as group:
        group.order(1, "fail")
        group.order(2, "leave")
        assert group.ends(1)[:2] == (0, "left\n")
        code, _, errors = group.ends(0)
        assert group.ends(2) == (0, "left\n", "")
    assert code == 1 and (tmp_path / "ended-0").read_text() == "1"
    assert ") failed, and the others wait for it: ValueError: a bad row. Go on with" in errors


def test_all_that_fail_together_leave_by_themselves(tmp_path: Path) -> None:
    with Group(tmp_path, 2) as group:
        for rank in range(2):
            group.order(rank, "fail")
        assert [group.ends(rank) for rank in range(2)] == [(0, "left\n", "")] * 2


def test_a_stranger_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_REACH_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = ("127.0.0.1", server.getsockname()[1])
        stranger, peer = (peers._reach(address, f"{key} 1") for key in ("guess", "key"))
        found = peers._welcome(server, "key", 2)
    assert stranger is not None and peer is not None
    with stranger, peer, found[1]:
        assert found.keys() == {1} and found[1].getpeername() == peer.getsockname()
        assert stranger.recv(1) == b""


def test_without_a_way_to_the_first_process_there_is_nobody_to_watch() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = ("127.0.0.1", server.getsockname()[1])
    assert peers._reach(address, "key 1") is None


def test_who_reached_somebody_else_is_not_watched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        answers: Iterator[list[Any]] = iter(
            [[("a", "first"), ("a", "second")], [(stranger.getsockname()[1], "key")], [False, True], [[]]]
        )
        watched = Peers("Go on.")
        assert watched.begin(1, "127.0.0.1", lambda mine: next(answers)) == [1]
        watched.leave()  # nothing to leave
    assert not peers._connections
