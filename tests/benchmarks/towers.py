"""A model whose vision tower does most of the work, as small published ones have it, and JPEG files to ask it about."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    GenerationConfig,
    Idefics3Config,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from lmmcl.world.mini import END, PAD, tokenizer

MARKS = ("<image>", "<fake_token_around_image>", "<global-img>")
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}{% else %}{{ part['text'] }}{% endif %}{% endfor %}{{ '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SIDE, PATCH = 378, 14
"""27 × 27 patches, nine of which become a token: SmolVLM's and Idefics 3's way with a SigLIP tower."""


@dataclass(frozen=True)
class Shape:
    """Widths and depths of tower and decoder.

    Args:
        tower: width and layers of the vision tower.
        decoder: width and layers of the language model.
    """

    tower: tuple[int, int]
    decoder: tuple[int, int]

    @property
    def ratio(self) -> float:
        """Parameters × positions of the tower over those of the decoder's layers, for one picture and 30 words."""
        (wide, deep), (width, layers) = self.tower, self.decoder
        patches = (SIDE // PATCH) ** 2
        return wide**2 * deep * patches / (width**2 * layers * (patches / 9 + 30))


def write_checkpoint(folder: Path, shape: Shape, seed: int = 0) -> Path:
    """Writes an Idefics 3 with random weights, pictures whole (not in tiles)."""
    text: PreTrainedTokenizerFast = tokenizer()
    text.add_special_tokens({"additional_special_tokens": [*MARKS, "<end_of_utterance>"]})
    ids = {name: text.get_vocab()[name] for name in (PAD, END, "<image>")}
    (wide, deep), (width, layers) = shape.tower, shape.decoder
    config = Idefics3Config(
        text_config={
            "model_type": "llama",
            "vocab_size": len(text),
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": width // 64,
            "num_key_value_heads": width // 64,
            "max_position_embeddings": 2048,
            "pad_token_id": ids[PAD],
            "eos_token_id": ids[END],
        },
        vision_config={
            "image_size": SIDE,
            "patch_size": PATCH,
            "hidden_size": wide,
            "intermediate_size": 4 * wide,
            "num_hidden_layers": deep,
            "num_attention_heads": wide // 64,
        },
        scale_factor=3,
        image_token_id=ids["<image>"],
    )
    processor = Idefics3Processor(
        image_processor=Idefics3ImageProcessorPil(
            size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=False
        ),
        tokenizer=text,
        image_seq_len=(SIDE // PATCH // 3) ** 2,
        chat_template=TEMPLATE,
    )
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(config)
    model.generation_config = GenerationConfig(eos_token_id=ids[END], pad_token_id=ids[PAD])
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_rows(folder: Path, count: int, seed: int = 0) -> Path:
    """Writes JPEG files of 640 × 480 and a JSONL that asks a word about each."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    draw = np.random.default_rng(seed)
    with (folder / "rows.jsonl").open("w") as rows:
        for index in range(count):
            coarse = draw.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC).save(
                folder / f"{index}.jpg", quality=90
            )
            question = " ".join(draw.choice(["red", "green", "left", "right", "how", "many"], 1 + index % 12))
            row = {"image": f"{index}.jpg", "question": question, "answer": "red"}
            rows.write(json.dumps(row) + "\n")
    return folder / "rows.jsonl"
