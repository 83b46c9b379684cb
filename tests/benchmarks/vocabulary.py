"""A model that is mostly vocabulary, and samples for it: a real Hugging Face folder and a JSONL with pictures."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    GenerationConfig,
    LlavaConfig,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
)
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from lmmcl.world.mini import CHAT_TEMPLATE, END, IMAGE, PAD, SPECIAL, with_template

SIDE, PATCH = 64, 8
PROMPT = (4, 8)
"""Fewest and most words of a prompt; a space between two is a token of its own."""
ANSWER = (1, 2)
"""Fewest and most words of an answer."""
_FIRST = len(SPECIAL) + 1


@dataclass(frozen=True)
class Shape:
    """How large a model is.

    Args:
        vocabulary: words, with the special ones.
        width: of the decoder.
        layers: of the decoder and of the vision tower.
    """

    vocabulary: int
    width: int = 256
    layers: int = 4


def tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Words w7, w8, ... behind the special ones and the space: each is one token."""
    words = [*SPECIAL, " ", *(f"w{index}" for index in range(_FIRST, vocabulary))]
    backend = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token=words[-1]))
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "isolated")
    backend.decoder = decoders.Fuse()
    return with_template(backend)


def write_processor(
    folder: Path, text: PreTrainedTokenizerFast, side: int, patch: int, strategy: str, additional: int
) -> None:
    """Writes processor and generation config of a LLaVA.

    Args:
        folder: of the checkpoint.
        text: the tokenizer.
        side: of the square picture, in pixels.
        patch: of its patches.
        strategy: which of the tower's positions are shown to the decoder: ``full`` or ``default``, all but the first.
        additional: positions of the tower that are no patches.
    """
    LlavaProcessor(
        image_processor=SiglipImageProcessorPil(size={"height": side, "width": side}),
        tokenizer=text,
        patch_size=patch,
        vision_feature_select_strategy=strategy,
        num_additional_image_tokens=additional,
        image_token=IMAGE,
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
    ids = text.get_vocab()
    GenerationConfig(do_sample=False, eos_token_id=ids[END], pad_token_id=ids[PAD]).save_pretrained(folder)


def write_checkpoint(folder: Path, shape: Shape, seed: int = 0) -> Path:
    """Writes a LLaVA of a SigLIP tower and a Qwen2 decoder with embedding and head untied, in bf16 as published."""
    text = tokenizer(shape.vocabulary)
    ids = {token: text.get_vocab()[token] for token in SPECIAL}
    heads = shape.width // 64
    decoder = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=4 * shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        pad_token_id=ids[PAD],
        eos_token_id=ids[END],
        bos_token_id=None,
    )
    vision = SiglipVisionConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=shape.layers,
        num_attention_heads=3,
        image_size=SIDE,
        patch_size=PATCH,
        vision_use_head=False,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=decoder,
        image_token_index=ids[IMAGE],
        image_seq_length=(SIDE // PATCH) ** 2,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        tie_word_embeddings=False,
        architectures=["LlavaForConditionalGeneration"],
        dtype="bfloat16",
    )
    config.save_pretrained(folder)
    write_processor(folder, text, SIDE, PATCH, "full", 0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder))
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


def write_samples(
    folder: Path,
    shape: Shape,
    count: int,
    seed: int = 0,
    lengths: tuple[tuple[int, int], ...] = (PROMPT, ANSWER),
    side: int = SIDE,
) -> Path:
    """Writes noise pictures and a JSONL of prompts and short answers, ``messages`` as this field's trainers take them.

    Args:
        folder: made if missing.
        shape: of the model, whose words they are.
        count: of samples.
        seed: of all that is drawn.
        lengths: fewest and most words of a prompt and of an answer.
        side: of the square pictures, in pixels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        picture = folder / f"{index}.png"
        Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(picture)
        prompt, answer = (
            " ".join(f"w{word}" for word in random.integers(_FIRST, shape.vocabulary, random.integers(*size)))
            for size in ((least, most + 1) for least, most in lengths)
        )
        user = [{"type": "image", "image": str(picture)}, {"type": "text", "text": prompt}]
        said = [{"type": "text", "text": answer}]
        messages = [{"role": "user", "content": user}, {"role": "assistant", "content": said}]
        rows.append({"id": str(index), "messages": messages})
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
