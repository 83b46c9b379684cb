"""The mini model's folder is an ordinary Hugging Face folder that loads without torchvision."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from lmmcl.world.mini import SPECIAL, pieces, tokenizer, write_skeleton
from tests.tiny import tiny_checkpoint


@pytest.mark.parametrize(
    "text",
    [
        "What is the colour?",
        " leading and trailing \n\n",
        "12:45",
        "Zürich 日本 \u2581 Ġ \x00",
        "a\tb  c",
        "",
    ],
)
def test_any_text_comes_back_as_it_was(text: str) -> None:
    tokens = tokenizer()
    assert tokens.decode(tokens(text)["input_ids"]) == text


def test_digits_are_single_tokens() -> None:
    assert tokenizer().tokenize("2048") == ["2", "0", "4", "8"]


def test_no_piece_is_listed_twice() -> None:
    listed = [piece for piece, _ in pieces()]
    assert len(set(listed)) == len(listed)
    assert listed[: len(SPECIAL)] == list(SPECIAL)


def test_the_default_model_weighs_at_most_eight_megabytes_in_bf16(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(write_skeleton(tmp_path)))
    assert 2 * sum(parameter.numel() for parameter in model.parameters()) <= 8e6


def test_model_and_processor_load_by_their_auto_classes_and_answer(tiny: Path) -> None:
    processor = AutoProcessor.from_pretrained(tiny)
    model: Any = AutoModelForImageTextToText.from_pretrained(tiny)
    talk = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]
    prompt = processor.apply_chat_template(talk, add_generation_prompt=True)
    assert prompt == "<|user|><image>What is it?<|end|><|assistant|>"
    inputs = processor(text=[prompt], images=[Image.new("RGB", (48, 48))], return_tensors="pt")
    image = processor.tokenizer.convert_tokens_to_ids("<image>")
    assert int((inputs["input_ids"] == image).sum()) == 16
    made = model.generate(**inputs, max_new_tokens=2)
    assert made.shape[1] <= inputs["input_ids"].shape[1] + 2
    assert model.config.text_config.tie_word_embeddings
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_the_chat_template_marks_the_answers_and_their_end_of_turn() -> None:
    tokens = tokenizer()
    talk: Any = [
        {"role": "user", "content": "What is it?"},
        {"role": "assistant", "content": "a star"},
        {"role": "user", "content": [{"type": "text", "text": "How large?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "small"}]},
    ]
    made: Any = tokens.apply_chat_template(
        talk, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    marked = [token for token, mark in zip(made["input_ids"], made["assistant_masks"], strict=True) if mark]
    assert tokens.decode(marked) == "a star<|end|>small<|end|>"


def test_the_folder_loads_where_torchvision_cannot_be_imported(tmp_path: Path) -> None:
    folder = write_skeleton(tmp_path)
    code = (
        "import sys; sys.modules['torchvision'] = None\n"
        "from transformers import AutoProcessor\n"
        f"print(type(AutoProcessor.from_pretrained({str(folder)!r})).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "LlavaProcessor"


def test_a_tiny_checkpoint_is_the_same_twice(tmp_path: Path) -> None:
    first, second = (tiny_checkpoint(tmp_path / name) / "model.safetensors" for name in "ab")
    assert first.read_bytes() == second.read_bytes()
