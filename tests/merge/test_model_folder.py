"""Folders are read tensor by tensor, and what cannot be read is named."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from lmmcl.errors import UserError
from lmmcl.merge import open_model
from lmmcl.merge.names import parameter_names
from lmmcl.merge.tensor_file import TensorFileWriter, entries
from tests.merge.two_models import SINGLE
from tests.tiny_run import TinyRun


def test_every_tensor_is_read_as_safetensors_reads_it(tiny: Path) -> None:
    model, expected = open_model(tiny), load_file(tiny / SINGLE)
    assert set(model.keys()) == set(expected)
    for key, value in expected.items():
        assert torch.equal(model.read(key), value)
        assert (model.dtype(key), model.shape(key)) == (value.dtype, tuple(value.shape))
        assert torch.equal(model.part(key, 1, 4), value.flatten()[1:4])


def test_a_stored_tensor_has_the_name_of_its_parameter_in_memory(tiny: Path) -> None:
    model = open_model(tiny)
    held = AutoModelForImageTextToText.from_pretrained(tiny).state_dict()
    names = parameter_names(model)
    assert set(names) == set(model.keys())
    assert any(key != name for key, name in names.items())
    assert all(torch.equal(held[name], model.read(key)) for key, name in names.items())


def test_what_is_written_part_by_part_is_what_safetensors_would_write(tmp_path: Path) -> None:
    tensors = {
        "scalar": torch.tensor(2.5),
        "none": torch.zeros(0, 3),
        "long": torch.arange(7),
        "mask": torch.tensor([True, False]),
        "half": torch.randn(3, 5).bfloat16(),
        "eight": torch.randn(4).to(torch.float8_e4m3fn),
    }
    told = {key: (value.dtype, tuple(value.shape)) for key, value in tensors.items()}
    with TensorFileWriter(tmp_path / "a.safetensors", told) as writer:
        for value in tensors.values():
            for part in value.flatten().split(2) if value.numel() else ():
                writer.put(part)
    save_file(tensors, tmp_path / "b.safetensors")
    for file in ("a.safetensors", "b.safetensors"):
        read, mine = load_file(tmp_path / file), entries(tmp_path / file)
        for key, value in tensors.items():
            assert read[key].dtype == value.dtype and mine[key].shape == tuple(value.shape)
            assert torch.equal(read[key].float(), value.float())
            assert torch.equal(mine[key].read().float(), value.flatten().float())


def test_a_writer_that_was_not_given_everything_says_so(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"4 bytes of .* were not written"),
        TensorFileWriter(tmp_path / "a.safetensors", {"a": (torch.float32, (3,))}) as writer,
    ):
        writer.put(torch.zeros(2))


def test_what_is_no_model_is_named(tiny: Path, finished: TinyRun, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"is the folder of a run: export .*lmmcl export .* --stage K --to DIR"
    ):
        open_model(finished.path)
    with pytest.raises(UserError, match="there is no such folder, and as a hub id"):
        open_model(tmp_path / "nothing" / "here")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "pytorch_model.bin").touch()
    with pytest.raises(UserError, match=r"it holds pytorch_model.bin, which is a pickle and not read"):
        open_model(tmp_path / "old")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="is an adapter, not a model: its base model must come first"):
        open_model(tmp_path / "adapter")


def test_files_that_are_not_whole_are_named(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    whole = (folder / SINGLE).read_bytes()
    for cut, message in (
        (4, "no whole safetensors file"),
        (len(whole) - 1, "is cut short: .* lies behind its end"),
    ):
        (folder / SINGLE).write_bytes(whole[:cut])
        with pytest.raises(UserError, match=message):
            open_model(folder)
    (folder / SINGLE).write_bytes(whole[:8] + b"x" + whole[9:])
    with pytest.raises(UserError, match="its header is damaged"):
        open_model(folder)


def test_an_index_and_its_files_must_agree(tiny: Path, tmp_path: Path) -> None:
    AutoModelForImageTextToText.from_pretrained(tiny).save_pretrained(tmp_path, max_shard_size="50KB")
    index = tmp_path / "model.safetensors.index.json"
    held = json.loads(index.read_text())
    assert set(open_model(tmp_path).keys()) == set(held["weight_map"])
    key, file = next(iter(held["weight_map"].items()))
    for change, message in (
        ({"more": file}, "more is in its model.safetensors.index.json and not in its files"),
        ({key: "../outside.safetensors"}, "names ../outside.safetensors, which is not in the folder"),
        ({key: "gone.safetensors"}, "names gone.safetensors, which is not in the folder"),
    ):
        index.write_text(json.dumps({"weight_map": {**held["weight_map"], **change}}))
        with pytest.raises(UserError, match=message):
            open_model(tmp_path)
