"""The lock of a run's folder: one process writes it, and a dead one holds nothing."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from lmmcl.errors import UserError
from lmmcl.run.run_lock import LOCK, RunLock, holder
from tests.callbacks.laws import law_fit
from tests.toy import toy_data, toy_module, toy_trainer

HOLD = "from pathlib import Path; from lmmcl.run.run_lock import RunLock; import sys, time; lock = RunLock()"


class Watcher(Callback):
    """Notes who holds a run while its first step is made."""

    def __init__(self, run: Path) -> None:
        self.seen: list[str | None] = []
        self._run = run

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seen.append(holder(self._run))


def test_only_one_holds_it_and_the_other_is_told_who(tmp_path: Path) -> None:
    first, second = RunLock(), RunLock()
    first.take(tmp_path)
    assert holder(tmp_path) == f"pid {os.getpid()} on {os.uname().nodename}"
    with pytest.raises(UserError, match=rf"another process \(pid {os.getpid()} on .*wait for it or stop it"):
        second.take(tmp_path)
    first.release()
    assert holder(tmp_path) is None
    second.take(tmp_path)
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_behind_locks_nothing_and_a_forked_process_neither_keeps_it_nor_takes_it_away(
    tmp_path: Path,
) -> None:
    script = (
        f"{HOLD}; import os; lock.take(Path(sys.argv[1])); child = os.fork()\n"
        "if child == 0: lock.release(); print('forked', flush=True); time.sleep(60)\n"
        "time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "forked\n"
    assert str(holder(tmp_path)).startswith(f"pid {process.pid} ")
    with pytest.raises(UserError, match=f"pid {process.pid} "):
        RunLock().take(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / LOCK).exists() and holder(tmp_path) is None
    lock = RunLock()
    lock.take(tmp_path)
    assert str(holder(tmp_path)).startswith(f"pid {os.getpid()} ")
    lock.release()
    os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()


def test_it_waits_for_who_only_looks(tmp_path: Path) -> None:
    script = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_SH);"
        "print('looks', flush=True); time.sleep(0.3)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / LOCK], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "looks\n"
    lock = RunLock()
    lock.take(tmp_path)
    lock.release()
    process.communicate()


def test_a_file_that_its_holder_just_removed_is_not_taken_for_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock
    removed: list[int] = []

    def late(descriptor: int, operation: int) -> None:
        if not removed:
            (tmp_path / LOCK).unlink()
            removed.append(descriptor)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    lock = RunLock()
    lock.take(tmp_path)
    monkeypatch.undo()
    assert removed and holder(tmp_path) is not None
    lock.release()


def test_without_locks_on_the_file_system_it_warns_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    lock = RunLock()
    with pytest.warns(UserWarning, match="file system without locks") as told:
        lock.take(tmp_path)
    lock.take(tmp_path)  # a second warning would be an error
    assert len(told) == 1 and holder(tmp_path) is None
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_other_processes_of_a_run_take_none(tmp_path: Path) -> None:
    first, other = RunLock(), RunLock()
    first.take(tmp_path)
    began = time.monotonic()
    other.take(tmp_path, write=False)
    other.release()
    assert time.monotonic() - began < 0.5 and holder(tmp_path) is not None
    first.release()


def test_a_fit_holds_it_and_leaves_none(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    watcher = Watcher(run)
    law_fit(tiny, run, [watcher], kill_at=1)
    assert watcher.seen == [f"pid {os.getpid()} on {os.uname().nodename}"]
    assert holder(run) is None and not (run / LOCK).exists()


def test_a_fit_of_a_run_that_another_process_writes_is_refused_and_touches_nothing(
    tiny: Path, tmp_path: Path
) -> None:
    run, lock = tmp_path / "run", RunLock()
    lock.take(run)
    with pytest.raises(UserError, match="another process"):
        toy_trainer().fit(toy_module(tiny, run), toy_data())
    assert [path.name for path in run.iterdir()] == [LOCK]
    assert holder(run) is not None
    lock.release()


def test_a_fit_that_is_refused_leaves_no_folder(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run to go on with"):
        toy_trainer().fit(toy_module(tiny, tmp_path / "some" / "run", resume=True), toy_data())
    assert list(tmp_path.iterdir()) == []
