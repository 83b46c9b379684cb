"""What is not the same model with other values is refused, with what differs."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from lmmcl.audit.two_models import load_two
from lmmcl.errors import UserError
from lmmcl.loading import Checkpoint
from tests.audit.broken import edited
from tests.tiny import tiny_checkpoint


def load(base: Path, tuned: Path) -> object:
    return load_two(Checkpoint(str(base)), Checkpoint(str(tuned)))


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
