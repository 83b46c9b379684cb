"""What is saved comes back; what is damaged is named; a kill leaves the file before."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lmmcl.run.checkpoint import (
    BrokenFileError,
    Checkpoint,
    PieceReader,
    digest,
    write_atomically,
    write_manifest,
    write_tensors,
)

FILE = "process-00000.safetensors"


def save(folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    folder.mkdir()
    write_manifest(folder, {FILE: write_tensors(folder / FILE, tensors)}, state)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tensors = {
        "a": torch.arange(12.0).reshape(4, 3),
        "b": torch.tensor(3.0),
        "c": torch.ones(2, dtype=torch.bfloat16),
    }
    save(tmp_path / "00000001", tensors, {"step": 1})
    save(tmp_path / "00000002", tensors, {"step": 2})
    return tmp_path


def test_what_is_saved_is_read_back(folder: Path) -> None:
    checkpoint = Checkpoint(folder / "00000002")
    checkpoint.verify()
    reader = checkpoint.reader()
    assert checkpoint.state == {"step": 2} and reader.keys() == {"a", "b", "c"}
    assert torch.equal(reader.read("a"), torch.arange(12.0).reshape(4, 3))
    assert reader.read("b").item() == 3.0 and reader.read("c").dtype == torch.bfloat16


def test_its_files_may_be_read_by_whoever_may_read_a_new_file(folder: Path) -> None:
    usual = folder / "usual"
    usual.touch()
    assert {path.stat().st_mode for path in (folder / "00000001").iterdir()} == {usual.stat().st_mode}


@pytest.mark.parametrize("name", [FILE, "manifest.json"])
def test_a_file_that_is_cut_short_or_missing_is_named(folder: Path, name: str) -> None:
    newest = folder / "00000002"
    file = newest / name
    data = file.read_bytes()
    for size in (0, len(data) // 2, len(data) - 2):
        file.write_bytes(data[:size])
        with pytest.raises(BrokenFileError, match=re.escape(str(file))):
            Checkpoint(newest).verify()
    file.unlink()
    with pytest.raises(BrokenFileError, match=re.escape(str(newest))):
        Checkpoint(newest).verify()
    Checkpoint(folder / "00000001").verify()


@pytest.mark.parametrize("name", [FILE, "manifest.json"])
def test_a_flipped_bit_is_named_wherever_it_lies(folder: Path, name: str) -> None:
    newest = folder / "00000002"
    file = newest / name
    data = file.read_bytes()
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        file.write_bytes(flipped)
        if name == "manifest.json" and _same_json(flipped, data):
            Checkpoint(newest).verify()  # another blank changes nothing
            continue
        with pytest.raises(BrokenFileError, match=re.escape(str(file))):
            Checkpoint(newest).verify()


def _same_json(one: bytes | bytearray, other: bytes) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


def test_the_file_is_what_safetensors_itself_would_write(tmp_path: Path) -> None:
    tensors = {
        "b/ä": torch.ones(2, 3),
        "a": torch.tensor(1.0),
        "z": torch.arange(3),
        "flags": torch.tensor([True, False, True]),
        "none": torch.zeros(0, 3),
        "half": torch.rand(5, 2, dtype=torch.float64).bfloat16(),
        "column": torch.rand(4, 4)[:, 1],
    }
    told = write_tensors(tmp_path / "mine", tensors)
    save_file({key: value.contiguous() for key, value in tensors.items()}, tmp_path / "theirs")
    assert (tmp_path / "mine").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert told["sha256"] == digest(tmp_path / "mine") and told["bytes"] == (tmp_path / "mine").stat().st_size


def test_tensors_that_share_memory_are_written_each_in_full(tmp_path: Path) -> None:
    shared = torch.rand(3)
    write_tensors(tmp_path / "file", {"one": shared, "two": shared, "part": shared[:2]})
    held = load_file(tmp_path / "file")
    assert torch.equal(held["one"], shared) and torch.equal(held["two"], shared)
    assert torch.equal(held["part"], shared[:2])


def test_pieces_that_do_not_cover_a_tensor_are_noticed(tmp_path: Path) -> None:
    save_file({"x": torch.ones(2, 5)}, tmp_path / "p0")
    pieces = {"x": {"whole": [7, 5], "offset": [0, 0], "shape": [2, 5]}}
    with pytest.raises(BrokenFileError, match="x: the files hold 10 of 35 values"):
        PieceReader(tmp_path, {"p0": {"pieces": pieces}}).read("x")


def test_pieces_of_several_processes_fill_any_box(tmp_path: Path) -> None:
    whole = torch.arange(35.0).reshape(7, 5)
    rows = {"p0": (0, 4), "p1": (4, 7)}
    files = {}
    for name, (begin, end) in rows.items():
        save_file({"x": whole[begin:end].contiguous()}, tmp_path / name)
        files[name] = {"pieces": {"x": {"whole": [7, 5], "offset": [begin, 0], "shape": [end - begin, 5]}}}
    reader = PieceReader(tmp_path, files)
    assert torch.equal(reader.read("x"), whole)
    box = torch.empty(3, 5)
    reader._fill("x", box, (3, 5), (2, 0))
    assert torch.equal(box, whole[2:5])


def test_a_kill_in_mid_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "matrix.json"
    write_atomically(path, b"old")

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save(tmp_path / name, {"b": torch.ones(2), "a": torch.zeros(3)}, {"y": 1, "x": [1.5]})
    for file in ("process-00000.safetensors", "manifest.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert json.loads((tmp_path / "one" / "manifest.json").read_text())["state"] == {"x": [1.5], "y": 1}
