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
from tests.audit.broken import Broken, moved_copy
from tests.tiny import tiny_checkpoint


def load(base: Path, tuned: Path) -> object:
    return load_two(Checkpoint(str(base)), Checkpoint(str(tuned)))


def edited(base: Path, to: Path, **changes: object) -> Path:
    """A copy with other keys in its config.json."""
    shutil.copytree(base, to)
    config = json.loads((to / "config.json").read_text())
    config["text_config"] |= changes
    (to / "config.json").write_text(json.dumps(config))
    return to


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


def test_another_model_is_refused_with_what_differs(tiny: Path, tmp_path: Path) -> None:
    wider = tiny_checkpoint(tmp_path / "wider", hidden=64)
    with pytest.raises(UserError, match=r"config.json differs in text_config.hidden_size 32 against 64"):
        load(tiny, wider)
    turned = edited(tiny, tmp_path / "turned", rms_norm_eps=0.5)
    with pytest.raises(UserError, match=r"text_config.rms_norm_eps 1e-06 against 0.5"):
        load(tiny, turned)


def test_a_key_of_mere_bookkeeping_is_no_difference(tiny: Path, tmp_path: Path) -> None:
    other = edited(tiny, tmp_path / "other", use_cache=False, attention_dropout=0.3, initializer_range=0.9)
    assert load_two(Checkpoint(str(tiny)), Checkpoint(str(other))).moved == []


def test_resized_embeddings_are_refused(tiny: Path, tmp_path: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(tiny)
    model.resize_token_embeddings(model.config.text_config.vocab_size + 8, mean_resizing=False)
    shutil.copytree(tiny, tmp_path / "more")
    model.save_pretrained(tmp_path / "more")
    with pytest.raises(UserError, match=r"vocab_size 1128 against 1136.*embeddings were resized"):
        load(tiny, tmp_path / "more")


def test_a_tensor_in_one_and_not_in_the_other_is_named(tiny: Path, tmp_path: Path) -> None:
    held = load_file(tiny / "model.safetensors")
    name = next(name for name in held if "up_proj" in name)
    for folder, tensors in (
        ("less", {key: value for key, value in held.items() if key != name}),
        ("more", {**held, "model.value_head.weight": torch.zeros(3)}),
    ):
        shutil.copytree(tiny, tmp_path / folder)
        save_file(tensors, tmp_path / folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"TUNED: .*layers\.0\.mlp\.up_proj\.weight"):
        load(tiny, tmp_path / "less")
    with pytest.raises(UserError, match=r"TUNED: .*does not use.*value_head"):
        load(tiny, tmp_path / "more")


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
