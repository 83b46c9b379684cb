"""Two folders, compared: which groups moved and how far, in exact numbers; and what cannot be compared is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from lmmcl.audit.two_models import load_two
from lmmcl.errors import UserError
from lmmcl.loading import Checkpoint
from tests.audit.broken import Broken, edited, moved_copy


def load(base: Path, tuned: Path) -> object:
    return load_two(Checkpoint(str(base)), Checkpoint(str(tuned)))


def test_a_model_against_itself_did_not_move(tiny: Path) -> None:
    two = load_two(Checkpoint(str(tiny)), Checkpoint(str(tiny)))
    assert (two.moved, two.base, two.tuned, two.notes) == ([], {}, {}, [])
    assert two.base_key == two.tuned_key
    assert {change.distance for change in two.groups} == {0.0}


def test_only_what_moved_moved_and_by_its_frobenius_norm(broken: Broken) -> None:
    two = load_two(Checkpoint(str(broken.base)), Checkpoint(str(broken.tuned)))
    assert two.moved == ["llm.attn.v", "llm.mlp.up"]
    assert two.base_key != two.tuned_key
    models = [AutoModelForImageTextToText.from_pretrained(path) for path in (broken.base, broken.tuned)]
    before, after = ({n: p.detach().double() for n, p in model.named_parameters()} for model in models)
    for change in two.groups:
        names = {"llm.mlp.up": ".up_proj.", "llm.attn.v": ".self_attn.v_proj."}.get(change.group)
        if names is None:
            assert (change.changed, change.distance) == (0, 0.0)
            continue
        mine = [n for n in before if names in n and "language_model" in n]
        moved = torch.cat([(after[n] - before[n]).flatten() for n in mine])
        norm = torch.cat([before[n].flatten() for n in mine]).norm()
        changed = sum(not torch.equal(after[n], before[n]) for n in mine)
        assert (change.tensors, change.changed) == (len(mine), changed)
        assert change.distance == pytest.approx(float(moved.norm() / norm))


def test_a_frozen_tensor_that_was_only_rounded_did_not_move(tiny: Path, tmp_path: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.bfloat16)
    shutil.copytree(tiny, tmp_path / "half")
    model.save_pretrained(tmp_path / "half")
    two = load_two(Checkpoint(str(tiny)), Checkpoint(str(tmp_path / "half")))
    assert two.moved == []


def test_names_in_files_do_not_matter(tiny: Path, tmp_path: Path) -> None:
    tuned = moved_copy(tiny, tmp_path / "tuned", {"llm.mlp.up": 0.02})
    held = load_file(tuned / "model.safetensors")
    other = {
        name.replace("language_model.model.", "model.language_model."): value for name, value in held.items()
    }
    assert other.keys() != held.keys()
    save_file(other, tuned / "model.safetensors", {"format": "pt"})
    two = load_two(Checkpoint(str(tiny)), Checkpoint(str(tuned)))
    assert two.moved == ["llm.mlp.up"]


def test_values_that_are_not_finite_are_named(tiny: Path, tmp_path: Path) -> None:
    tuned = moved_copy(tiny, tmp_path / "nan", {"llm.norm": float("nan")})
    with pytest.raises(UserError, match=r"TUNED: .*norm.*not finite"):
        load(tiny, tuned)


def test_a_base_that_is_an_adapter_and_a_quantized_model_are_refused(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(UserError, match=r"BASE: .* is a peft adapter"):
        load(tmp_path / "adapter", tiny)
    small = edited(tiny, tmp_path / "small")
    config = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(
        json.dumps({**config, "quantization_config": {"quant_method": "bitsandbytes"}})
    )
    with pytest.raises(UserError, match="TUNED: a model must not be quantized"):
        load(tiny, small)
