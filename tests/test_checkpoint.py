"""What is saved comes back; what is damaged is named; a kill leaves the file before."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lmmcl.checkpoint import (
    BrokenFileError,
    Checkpoint,
    PieceReader,
    save,
    write_atomically,
)
from lmmcl.errors import UserError


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


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "half a manifest"])
def test_a_damaged_checkpoint_is_named(folder: Path, damage: str) -> None:
    newest = folder / "00000002"
    file = newest / "process-00000.safetensors"
    data = file.read_bytes()
    if damage == "truncate":
        file.write_bytes(data[:-5])
    elif damage == "flip":
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "remove":
        file.unlink()
    else:
        text = (newest / "manifest.json").read_text()
        (newest / "manifest.json").write_text(text[: len(text) // 2])
    with pytest.raises(BrokenFileError, match=re.escape(str(newest))):
        Checkpoint(newest).verify()
    Checkpoint(folder / "00000001").verify()


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


def test_a_full_disk_is_one_error_that_names_the_file_and_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lmmcl.checkpoint.save_file", full)
    with pytest.raises(UserError, match=r"could not write .*process-00000.*No space left.*--ckpt_path last"):
        save(tmp_path / "1", {"a": torch.ones(2)}, {})


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save(tmp_path / name, {"b": torch.ones(2), "a": torch.zeros(3)}, {"y": 1, "x": [1.5]})
    for file in ("process-00000.safetensors", "manifest.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert json.loads((tmp_path / "one" / "manifest.json").read_text())["state"] == {"x": [1.5], "y": 1}
