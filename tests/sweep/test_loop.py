"""The loop of a sweep, with a script in the place of runs."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lmmcl.run.run_lock import RunLock
from lmmcl.sweep.grid import Planned
from lmmcl.sweep.loop import Loop, Outcome

Stub = Callable[[str], None]


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """Says what every run does, in bash."""

    def write(text: str) -> None:
        path = tmp_path / "stub"
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return write


def loop(folder: Path, names: str = "a", elsewhere: list[Planned] | None = None) -> Loop:
    runs = [Planned(name, folder / name, ()) for name in names]
    left = [] if elsewhere is None else elsewhere
    return Loop(runs, 1, [], folder / "logs", lambda run: None, lambda outcome: None, left.append)


def only(outcomes: list[Outcome]) -> Outcome:
    (outcome,) = outcomes
    return outcome


def test_the_reason_of_a_failure_is_of_this_process_not_of_a_former_one(stub: Stub, tmp_path: Path) -> None:
    stub("echo 'lmmcl: error: the first reason'; echo 'more of it'; exit 2")
    first = only(loop(tmp_path).run())
    assert first.reason == "lmmcl: error: the first reason" and first.ending == "exit code 2"
    stub("echo 'it went out of memory'; kill -9 $$")
    second = only(loop(tmp_path).run())
    assert second.reason == "it went out of memory" and second.ending == "killed by SIGKILL"
    stub("exit 1")
    assert only(loop(tmp_path).run()).reason == "it said nothing"
    assert (tmp_path / "logs" / "a.log").read_text().count("the first reason") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_is_passed_on_and_no_other_run_starts(
    number: signal.Signals, stub: Stub, tmp_path: Path
) -> None:
    stub(
        f"trap 'touch {tmp_path}/stopped; exit 143' TERM; touch {tmp_path}/began; while :; do sleep 0.02; done"
    )

    def send() -> None:
        while not (tmp_path / "began").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    # The tests themselves may run in the background, where SIGINT and SIGHUP are ignored.
    former = signal.signal(number, signal.SIG_DFL)
    thread = threading.Thread(target=send)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            loop(tmp_path, "ab").run()
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        thread.join()
        signal.signal(number, former)
    assert (tmp_path / "stopped").exists() and not (tmp_path / "logs" / "b.log").exists()


def test_under_nohup_a_lost_terminal_stops_nothing(stub: Stub, tmp_path: Path) -> None:
    stub("kill -HUP $PPID; exit 0")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert only(loop(tmp_path).run()).complete
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_that_another_process_began_in_the_meantime_is_left_to_it(stub: Stub, tmp_path: Path) -> None:
    stub("exit 0")
    lock = RunLock()
    lock.take(tmp_path / "b")
    elsewhere: list[Planned] = []
    outcomes = loop(tmp_path, "abc", elsewhere).run()
    assert [outcome.run.name for outcome in outcomes] == ["a", "c"]
    assert [run.name for run in elsewhere] == ["b"]
    lock.release()
