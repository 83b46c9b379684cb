"""What a folder of features gives back, what it throws out, and what it does with damaged files."""

import errno
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from lmmcl.evaluation import feature_folder
from lmmcl.evaluation.feature_folder import FeatureFolder

MUCH = 1 << 30


def entry(size: int = 1000, value: float = 1.0) -> dict[str, Tensor]:
    return {"0": torch.full((size,), value, dtype=torch.bfloat16), "1": torch.tensor([[True, False]])}


def files(path: Path) -> set[str]:
    return {file.name.partition(".")[0] for file in path.iterdir()}


def used(path: Path, key: str, ago: float) -> None:
    then = time.time() - ago
    os.utime(path / f"{key}.safetensors", (then, then))


def test_an_entry_comes_back_bit_for_bit(tmp_path: Path) -> None:
    FeatureFolder(tmp_path / "new", MUCH).keep("a", entry(), "text")
    found = FeatureFolder(tmp_path / "new", MUCH).find("a")
    assert found is not None
    tensors, text = found
    assert text == "text"
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in entry().items())
    assert tensors["0"].dtype == torch.bfloat16
    assert FeatureFolder(tmp_path / "new", MUCH).find("b") is None
    assert files(tmp_path / "new") == {"a"}  # nothing half written is left


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "text"])
def test_a_damaged_entry_is_named_and_removed(tmp_path: Path, damage: str) -> None:
    FeatureFolder(tmp_path, MUCH).keep("a", entry(), "some text")
    file = tmp_path / "a.safetensors"
    data = bytearray(file.read_bytes())
    if damage == "flipped":
        data[-7] ^= 1
    elif damage == "text":
        place = data.index(b"some text")
        data[place : place + 4] = b"none"
    else:
        del data[0 if damage == "empty" else len(data) // 2 :]
    file.write_bytes(data)
    with pytest.warns(UserWarning, match="a.safetensors is damaged"):
        assert FeatureFolder(tmp_path, MUCH).find("a") is None
    assert not file.exists()


@pytest.mark.parametrize("writable", [False, True])
def test_an_entry_of_another_user_is_used_and_stays_and_is_marked_where_the_group_may_write(
    writable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FeatureFolder(tmp_path, MUCH).keep("a", entry(), "text")
    used(tmp_path, "a", 1000.0)
    stamp = os.utime

    def refused(path: Path, ns: tuple[int, int] | None = None) -> None:
        if ns is not None or not writable:
            raise PermissionError(f"{path} is not yours")
        stamp(path)

    monkeypatch.setattr(os, "utime", refused)
    assert FeatureFolder(tmp_path, MUCH).find("a") is not None
    assert files(tmp_path) == {"a"}
    assert ((tmp_path / "a.safetensors").stat().st_mtime > time.time() - 100) == writable


def test_room_is_made_by_what_was_not_used_for_longest(tmp_path: Path) -> None:
    before = FeatureFolder(tmp_path, MUCH)
    for key in "abc":
        before.keep(key, entry(), "")
    for key, ago in {"a": 100.0, "b": 300.0, "c": 200.0}.items():
        used(tmp_path, key, ago)
    size = (tmp_path / "a.safetensors").stat().st_size
    folder = FeatureFolder(tmp_path, 3 * size)
    folder.keep("d", entry(), "")
    assert files(tmp_path) == {"a", "c", "d"}


def test_what_this_process_uses_stays_until_it_lets_go(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    size = 2500
    folder = FeatureFolder(tmp_path, 2 * size)
    with caplog.at_level(logging.WARNING):
        for key in "abcd":
            folder.keep(key, entry(), "")
    assert files(tmp_path) == {"a", "b"}
    assert sum("has no room" in record.message for record in caplog.records) == 1
    folder.release()
    assert folder.find("b") is not None
    folder.keep("c", entry(), "")
    assert files(tmp_path) == {"b", "c"}


def test_what_never_fits_throws_nothing_out(tmp_path: Path) -> None:
    before = FeatureFolder(tmp_path, 10_000)
    before.keep("aa", {"x": torch.ones(1000)}, "")
    after = FeatureFolder(tmp_path, 10_000)
    after.keep("bb", {"x": torch.ones(5000)}, "")
    assert after.find("bb") is None and after.find("aa") is not None


def test_an_entry_on_a_disk_that_takes_nothing_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FeatureFolder(tmp_path, 10_000).keep("aa", {"x": torch.ones(10)}, "text")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "utime", refuse)
    found = FeatureFolder(tmp_path, 10_000).find("aa")
    assert found is not None and found[1] == "text"


def test_a_disk_without_room_costs_features_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_folder, "save_file", full)
    with caplog.at_level(logging.WARNING):
        FeatureFolder(tmp_path, MUCH).keep("a", entry(), "")
    assert "No space left" in caplog.text
    assert not list(tmp_path.iterdir())


def test_what_a_kill_left_half_written_is_never_read_and_goes(tmp_path: Path) -> None:
    left = tmp_path / "a.safetensors.123.part"
    left.write_bytes(b"half")
    young = tmp_path / "b.safetensors.124.part"
    young.write_bytes(b"half")
    os.utime(left, (1.0, 1.0))
    folder = FeatureFolder(tmp_path, MUCH)
    assert folder.find("a") is None
    folder.keep("c", entry(), "")
    assert not left.exists()
    assert young.exists()  # another process may be writing it


def test_features_of_training_rows_make_room_for_others_and_take_none_from_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    size = 2500
    FeatureFolder(tmp_path, 3 * size).keep("measured", entry(), "")
    used(tmp_path, "measured", 1000.0)
    rows = FeatureFolder(tmp_path, 3 * size, of_rows=True)
    with caplog.at_level(logging.WARNING):
        for key in "abc":
            rows.keep(key, entry(), "")
    assert files(tmp_path) == {"measured", "a", "b"}
    assert "has no room" in caplog.text
    assert rows.find("a") is not None
    others = FeatureFolder(tmp_path, 3 * size)
    assert others.find("a") is None
    others.keep("other", entry(), "")
    assert files(tmp_path) in ({"measured", "other", "a"}, {"measured", "other", "b"})
    FeatureFolder(tmp_path, 3 * size, of_rows=True).keep("d", entry(), "")  # another run's rows go
    assert files(tmp_path) == {"measured", "other", "d"}


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The entries for which a folder was looked at, which takes long."""
    seen: list[int] = []
    look = FeatureFolder._look

    def slow(self: FeatureFolder, size: int) -> int:
        seen.append(size)
        time.sleep(0.02)
        return look(self, size)

    monkeypatch.setattr(FeatureFolder, "_look", slow)
    return seen


def test_a_folder_that_takes_long_to_look_at_is_looked_at_now_and_then(
    tmp_path: Path, looks: list[int]
) -> None:
    size = 2500
    folder = FeatureFolder(tmp_path, 4 * size, of_rows=True)
    for key in "abcdefgh":
        folder.keep(key, entry(), "")
    assert len(files(tmp_path)) in (3, 4)  # counted by itself until it seems full
    assert len(looks) == 2


def test_between_looks_the_disk_is_asked_and_room_is_shared_among_processes(
    tmp_path: Path, looks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 4)
    folder = FeatureFolder(tmp_path, 8 * 2500)
    for key in "abc":
        folder.keep(key, entry(), "")
    assert len(looks) == 2  # a fourth of the room is two entries
    full = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    folder.keep("d", entry(), "")
    assert files(tmp_path) == {"a", "b", "c"}


@pytest.mark.parametrize("of_rows", [False, True])
def test_a_look_makes_room_for_more_than_one_entry(of_rows: bool, tmp_path: Path, looks: list[int]) -> None:
    size, much = 2500, 200 * 2500
    before = FeatureFolder(tmp_path, MUCH, of_rows=True)
    before.keep("0", entry(), "")
    first = tmp_path / "0.row.safetensors"
    for number in range(1, much // first.stat().st_size + 1):
        shutil.copy2(first, tmp_path / f"{number}.row.safetensors")
    assert size > first.stat().st_size
    looks.clear()
    folder = FeatureFolder(tmp_path, much, of_rows)
    for key in "ab":
        folder.keep(key, entry(), "")
    assert {"a", "b"} <= files(tmp_path)
    assert len(looks) == 1


def test_training_rows_throw_out_what_no_measurement_has_used_for_a_month(tmp_path: Path) -> None:
    size = 2500
    measured = FeatureFolder(tmp_path, MUCH)
    for key, days in {"old": 31, "young": 29}.items():
        measured.keep(key, entry(), "")
        used(tmp_path, key, days * 24 * 3600.0)
    rows = FeatureFolder(tmp_path, 2 * size, of_rows=True)
    for key in "ab":
        rows.keep(key, entry(), "")
    assert files(tmp_path) == {"young", "a"}
