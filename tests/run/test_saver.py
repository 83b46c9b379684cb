"""A checkpoint holds what was when it was asked for, is written meanwhile, and counts when all of it is on disk."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Timer
from typing import Any
from weakref import ref

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import lmmcl.run.host_memory
from lmmcl.errors import UserError
from lmmcl.run.checkpoint import Checkpoint, TensorFile
from lmmcl.run.host_memory import HostMemory, available_bytes
from lmmcl.run.saver import Saver, _Writing, end_saves

FILE = "process-00000.safetensors"


def tensors() -> dict[str, Tensor]:
    return {"a": torch.arange(12.0).reshape(4, 3), "b": torch.tensor(3.0), "c": torch.ones(2).bfloat16()}


@pytest.fixture
def saver() -> Iterator[Saver]:
    saver = Saver()
    yield saver
    saver.close()


@pytest.fixture
def held_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[Event]:
    """Writing waits for this event."""
    go, write = Event(), TensorFile.write

    def waiting(file: TensorFile, path: Path) -> dict[str, Any]:
        go.wait()
        return write(file, path)

    monkeypatch.setattr(TensorFile, "write", waiting)
    yield go
    go.set()


def test_it_holds_the_values_and_the_state_of_the_moment(
    tmp_path: Path, saver: Saver, held_up: Event
) -> None:
    held, state = tensors(), {"seen": [1]}
    saver.start(tmp_path / "1", held, state)
    for tensor in held.values():
        tensor.add_(1)
    state["seen"].append(2)
    assert not Checkpoint(tmp_path / "1").finished
    held_up.set()
    saver.wait()
    checkpoint = Checkpoint(tmp_path / "1")
    checkpoint.verify()
    assert checkpoint.state == {"seen": [1]}
    found = load_file(tmp_path / "1" / FILE)
    assert all(torch.equal(found[key], value) for key, value in tensors().items())


def test_one_save_is_in_flight_and_the_next_waits_for_it(
    tmp_path: Path, saver: Saver, held_up: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver.start(tmp_path / "1", tensors(), {})
    monkeypatch.setattr(Saver, "check", lambda saver: held_up.is_set() or pytest.fail("it did not wait"))
    held_up.set()
    saver.start(tmp_path / "2", tensors(), {})
    assert Checkpoint(tmp_path / "1").finished


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system refuses what goes beyond, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_error_that_names_the_file_and_the_way_out(tmp_path: Path, saver: Saver) -> None:
    saver.start(tmp_path / "1", tensors(), {})
    saver.wait()
    with files_of_at_most(4096):
        saver.start(tmp_path / "2", {"a": torch.ones(2000)}, {})
        until = time.monotonic() + 60
        while not saver.failed and time.monotonic() < until:
            time.sleep(0.001)
        with pytest.raises(UserError, match=rf"could not write .*2/{FILE}.*too large.*--ckpt_path last"):
            saver.check()
    assert not saver.failed and not Checkpoint(tmp_path / "2").finished
    Checkpoint(tmp_path / "1").verify()


def test_an_error_that_nobody_asked_for_is_said_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    saver = Saver()
    saver.start(tmp_path / "1", tensors(), {})
    with pytest.warns(UserWarning, match="the last checkpoint was not written: .*No space left"):
        saver.close()


def test_two_are_kept_and_what_was_not_finished_or_lies_beyond_goes(tmp_path: Path, saver: Saver) -> None:
    for name in ("1", "2", "3", "9"):
        saver.start(tmp_path / name, tensors(), {})
        saver.wait()
    (tmp_path / "5").mkdir()
    (tmp_path / "3 (copy)").mkdir()  # somebody's, which stays
    assert {path.name for path in tmp_path.iterdir()} == {"3", "3 (copy)", "5", "9"}
    saver.start(tmp_path / "4", tensors(), {})
    saver.wait()
    assert {path.name for path in tmp_path.iterdir()} == {"3", "3 (copy)", "4"}


def test_without_room_for_a_copy_it_is_written_at_once(
    tmp_path: Path, saver: Saver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmmcl.run.host_memory, "available_bytes", lambda: 1 << 20)
    held = tensors()
    with pytest.warns(UserWarning, match="host memory has no room .*checkpoint_every_n_steps"):
        saver.start(tmp_path / "1", held, {})
    for tensor in held.values():
        tensor.add_(1)
    saver.start(tmp_path / "2", held, {})  # said once
    saver.wait()
    found = load_file(tmp_path / "1" / FILE)
    assert all(torch.equal(found[key], value) for key, value in tensors().items())


def test_the_system_says_how_much_memory_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    4000 kB\n")
    monkeypatch.setattr(lmmcl.run.host_memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(lmmcl.run.host_memory, "_CGROUP", tmp_path)
    assert available_bytes() == 4000 * 1024
    for name, text in (("max", "max"), ("current", "2000"), ("stat", "anon 1500\ninactive_file 500")):
        (tmp_path / f"memory.{name}").write_text(f"{text}\n")
    assert available_bytes() == 4000 * 1024
    (tmp_path / "memory.max").write_text("3000\n")
    assert available_bytes() == 1500
    job = tmp_path / "job" / "step"  # as SLURM makes it, inside of the root
    job.mkdir(parents=True)
    (tmp_path / "membership").write_text("0::/job/step\n")
    monkeypatch.setattr(lmmcl.run.host_memory, "_MEMBERSHIP", tmp_path / "membership")
    assert available_bytes() == 1500
    for name, text in (("max", "900"), ("current", "200"), ("stat", "anon 100\ninactive_file 100")):
        (job.parent / f"memory.{name}").write_text(f"{text}\n")
    assert available_bytes() == 800
    monkeypatch.setattr(lmmcl.run.host_memory, "_MEMINFO", tmp_path / "nowhere")
    assert available_bytes() is None


def test_a_copy_may_lie_in_several_pieces_and_goes_when_it_is_let_go_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmmcl.run.host_memory, "_PIECE", 16)
    held = {**tensors(), "none": torch.zeros(0, 3), "column": torch.rand(4, 4)[:, 1]}
    memory, file = HostMemory(), TensorFile.of(held)
    copy = memory.copy(file)
    assert len(copy.parts) == 5 and copy.write(tmp_path / "copy") == file.write(tmp_path / "file")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "file").read_bytes()
    pieces = [ref(part) for part in copy.parts]
    del copy
    assert [piece() for piece in pieces] == [None] * 5


def part(folder: Path, rank: int) -> _Writing:
    """What one of three processes does for a save."""
    writing = _Writing(folder, rank, 3, TensorFile.of(tensors()), {"step": 1})
    writing.start()
    return writing


def test_before_a_process_is_ended_the_save_in_flight_becomes_whole(tmp_path: Path, held_up: Event) -> None:
    writing = [part(tmp_path, rank) for rank in range(2)]
    held_up.set()
    for one in writing:
        one.mine.wait()
    assert not Checkpoint(tmp_path).finished
    held_up.clear()
    part(tmp_path, 2)
    Timer(0.1, held_up.set).start()
    end_saves(30.0, dead=1)
    Checkpoint(tmp_path).verify()
    assert Checkpoint(tmp_path).state == {"step": 1}


@pytest.mark.parametrize("dead", [0, 2])
def test_a_save_that_lacks_the_part_of_a_dead_process_is_not_waited_for(
    dead: int, tmp_path: Path, held_up: Event
) -> None:
    writing = part(tmp_path, 1)
    began = time.monotonic()
    end_saves(30.0, dead)
    assert time.monotonic() - began < 5
    assert not writing.mine.is_set()


def test_a_save_is_waited_for_no_longer_than_is_bearable(tmp_path: Path, held_up: Event) -> None:
    (tmp_path / "process-00002.json").write_text("{}")
    writing = part(tmp_path, 1)
    began = time.monotonic()
    end_saves(0.2, dead=2)
    assert 0.2 <= time.monotonic() - began < 5
    assert not writing.mine.is_set()
