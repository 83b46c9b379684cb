"""A merge of folders is a model, of the base's layout; nothing is merged that does not fit."""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from lmmcl.errors import UserError
from lmmcl.merge.folders import merge_folders
from lmmcl.merge.methods import METHODS, method_of, settings_of
from lmmcl.merge.pieces import Merge
from lmmcl.merge.task_arithmetic import task_arithmetic
from lmmcl.merge.wise_ft import wise_ft
from tests.merge.two_models import SINGLE, merged, tuned_from

HALF: Merge = partial(wise_ft, alpha=0.5)


@pytest.fixture(scope="module")
def tuned(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tuned_from(tiny, tmp_path_factory.mktemp("merge") / "tuned", 1)


def write(
    base: Path, tuned: Path, to: Path, merge: Merge = HALF, overwrite: bool = False
) -> dict[str, Tensor]:
    merge_folders(str(base), [str(tuned)], to, merge, {}, overwrite)
    return load_file(to / SINGLE) if (to / SINGLE).exists() else {}


def changed(folder: Path, to: Path, **tensors: Tensor | None) -> Path:
    """A copy of a checkpoint with other tensors, or without some."""
    shutil.copytree(folder, to)
    held = {**load_file(folder / SINGLE), **tensors}
    save_file({key: value for key, value in held.items() if value is not None}, to / SINGLE, {"format": "pt"})
    return to


@pytest.mark.parametrize("method", METHODS)
def test_every_tensor_of_a_merge_is_that_of_the_pure_function(
    tiny: Path, tuned: Path, tmp_path: Path, method: str
) -> None:
    merge = method_of(method, settings_of(method, {}), 1)
    found, base, other = (
        write(tiny, tuned, tmp_path / "to", merge),
        load_file(tiny / SINGLE),
        load_file(tuned / SINGLE),
    )
    assert list(found) == list(base)
    for key, value in found.items():
        assert torch.equal(value, merged(merge, base[key], other[key], name=key)), key


def test_the_merge_is_a_whole_model_that_transformers_loads(tiny: Path, tuned: Path, tmp_path: Path) -> None:
    write(tiny, tuned, tmp_path / "to")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "to")
    sides = [AutoModelForImageTextToText.from_pretrained(folder).state_dict() for folder in (tiny, tuned)]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, (sides[0][name] + sides[1][name]) / 2)
    AutoProcessor.from_pretrained(tmp_path / "to")
    for name in ("config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / "to" / name).read_bytes() == (tiny / name).read_bytes()


def test_shards_stay_as_the_base_has_them(tiny: Path, tuned: Path, tmp_path: Path) -> None:
    AutoModelForImageTextToText.from_pretrained(tiny).save_pretrained(
        tmp_path / "base", max_shard_size="50KB"
    )
    write(tmp_path / "base", tuned, tmp_path / "to")
    index = "model.safetensors.index.json"
    before, after = (json.loads((tmp_path / side / index).read_text()) for side in ("base", "to"))
    assert after["weight_map"] == before["weight_map"]
    assert after["metadata"]["total_size"] == before["metadata"]["total_size"]
    sharded = AutoModelForImageTextToText.from_pretrained(tmp_path / "to").state_dict()
    write(tiny, tuned, tmp_path / "whole")
    whole = AutoModelForImageTextToText.from_pretrained(tmp_path / "whole").state_dict()
    assert all(torch.equal(sharded[name], value) for name, value in whole.items())


def test_a_model_in_the_layout_of_memory_is_met_by_name(tiny: Path, tuned: Path, tmp_path: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(tuned)
    other = Path(shutil.copytree(tuned, tmp_path / "memory"))
    kept = {name: value for name, value in model.state_dict().items() if name != "lm_head.weight"}
    save_file({name: value.clone() for name, value in kept.items()}, other / SINGLE, {"format": "pt"})
    assert set(kept) != set(load_file(tiny / SINGLE))
    one, two = write(tiny, other, tmp_path / "one"), write(tiny, tuned, tmp_path / "two")
    assert all(torch.equal(one[key], two[key]) for key in two)


def test_a_head_that_repeats_its_tied_embedding_is_no_odd_tensor(
    tiny: Path, tuned: Path, tmp_path: Path
) -> None:
    tensors = load_file(tuned / SINGLE)
    table = next(value for key, value in tensors.items() if key.endswith("embed_tokens.weight"))
    doubled = changed(tuned, tmp_path / "doubled", **{"language_model.lm_head.weight": table.clone()})
    one, two = write(tiny, doubled, tmp_path / "one"), write(tiny, tuned, tmp_path / "two")
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in two)
    untied = changed(tuned, tmp_path / "untied", **{"language_model.lm_head.weight": table + 1})
    with pytest.raises(UserError, match=r"language_model.lm_head.weight is in .*untied and not in .*"):
        write(tiny, untied, tmp_path / "to")


def test_what_does_not_fit_is_named_and_nothing_is_left(tiny: Path, tuned: Path, tmp_path: Path) -> None:
    key = next(key for key, value in load_file(tiny / SINGLE).items() if value.dim() == 2)
    value = load_file(tiny / SINGLE)[key]
    odd: dict[str, dict[str, Tensor | None]] = {
        f"{key} is in .* and not in .*a; a merge needs models of one architecture": {key: None},
        r"more is in .*a and not in .*": {"more": value},
        f"{key} has shape .* a merge needs models of one architecture": {key: value.T.contiguous()[:3]},
        f"{key} has dtype torch.float32 in .* and torch.bfloat16": {key: value.bfloat16()},
    }
    for number, (message, change) in enumerate(odd.items()):
        (tmp_path / str(number)).mkdir()
        other = changed(tuned, tmp_path / str(number) / "a", **change)
        with pytest.raises(UserError, match=message):
            write(tiny, other, tmp_path / "to")
    assert not list(tmp_path.glob("to*"))


def test_integers_are_kept_where_all_agree_and_refused_where_not(
    tiny: Path, tuned: Path, tmp_path: Path
) -> None:
    base = changed(tiny, tmp_path / "base", positions=torch.arange(9))
    same = changed(tuned, tmp_path / "same", positions=torch.arange(9))
    other = changed(tuned, tmp_path / "other", positions=torch.arange(9) + 1)
    assert torch.equal(write(base, same, tmp_path / "to")["positions"], torch.arange(9))
    with pytest.raises(
        UserError, match=r"positions holds torch.int64 values, of which no sum can be made, and they"
    ):
        write(base, other, tmp_path / "not")
    assert not list(tmp_path.glob("not*"))


def test_quantised_weights_are_refused(tiny: Path, tuned: Path, tmp_path: Path) -> None:
    eight = {"scaled": torch.ones(4).to(torch.float8_e4m3fn)}
    base, other = (changed(f, tmp_path / n, **eight) for f, n in ((tiny, "base"), (tuned, "other")))
    with pytest.raises(UserError, match=r"scaled is quantised \(torch.float8_e4m3fn\)"):
        write(base, other, tmp_path / "to")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": {}}))
    with pytest.raises(UserError, match="has quantised weights, which cannot be added"):
        write(base, other, tmp_path / "to")


def test_a_merge_never_writes_over_anything(tiny: Path, tuned: Path, tmp_path: Path) -> None:
    base, other = (Path(shutil.copytree(f, tmp_path / n)) for f, n in ((tiny, "base"), (tuned, "other")))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "text").write_text("mine")
    (tmp_path / "run" / "stages").mkdir(parents=True)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"--to: .* must be a new or an empty folder"):
        write(base, other, tmp_path / "mine")
    for to in (base, other, base / "inside", tmp_path):
        with pytest.raises(UserError, match="which is read, hold one another"):
            write(base, other, to, overwrite=True)
    with pytest.raises(UserError, match="holds a run, which would be destroyed"):
        write(base, other, tmp_path / "run", overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_with_overwrite_old_weights_go_and_other_files_stay(tiny: Path, tuned: Path, tmp_path: Path) -> None:
    to = tmp_path / "to"
    to.mkdir()
    for name in ("mine", "model-00001-of-00009.safetensors", "model.safetensors.index.json", "config.json"):
        (to / name).write_text("old")
    found = write(tiny, tuned, to, overwrite=True)
    assert found.keys() == load_file(tiny / SINGLE).keys()
    assert (to / "mine").read_text() == "old"
    assert sorted(path.name for path in to.glob("model*")) == [SINGLE]
    assert (to / "config.json").read_bytes() == (tiny / "config.json").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["to"]


def test_a_model_beside_the_target_is_read_and_stays(tiny: Path, tuned: Path, tmp_path: Path) -> None:
    beside = Path(shutil.copytree(tuned, tmp_path / "out.part"))
    found = write(tiny, beside, tmp_path / "out")
    assert found.keys() == load_file(beside / SINGLE).keys()


def test_the_merge_can_be_written_where_one_stands(
    tiny: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "to").mkdir()
    monkeypatch.chdir(tmp_path / "to")
    assert write(tiny, tuned, Path(".")).keys() == load_file(tiny / SINGLE).keys()


def test_it_tells_how_far_it_went(tiny: Path, tuned: Path, tmp_path: Path) -> None:
    moved = merge_folders(str(tiny), [str(tuned)], tmp_path / "to", partial(task_arithmetic, weight=0.25), {})
    base, other = load_file(tiny / SINGLE), load_file(tuned / SINGLE)
    change = torch.cat([(other[key] - base[key]).flatten() for key in base])
    assert moved.values == change.numel()
    assert moved.changes == [pytest.approx(float(change.norm()), rel=1e-4)]
    assert moved.distance == pytest.approx(0.25 * moved.changes[0], rel=1e-3)
    assert moved.sentence(["tuned"]).endswith("the norm of the change is 0.25 of tuned's.")


def test_what_a_merge_of_files_imports_is_torch_and_little_else() -> None:
    code = (
        "import sys, lmmcl.cli.merge, lmmcl.merge.folders, lmmcl.merge.methods as m;"
        "print([n for n in ('transformers', 'lightning', 'torch.distributed.tensor', 'PIL') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
