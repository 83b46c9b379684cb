"""Models of published shapes with random weights: the towers and decoders of the study, joined as in LLaVA-1.5."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText, LlavaConfig

from lmmcl.world.mini import END, IMAGE, PAD, SPECIAL
from tests.benchmarks.vocabulary import tokenizer, write_processor

CONFIGS = Path(__file__).parents[1] / "real_configs"


def write_published(folder: Path, name: str) -> Path:
    """Writes a folder in bf16 whose weights were drawn on the GPU.

    One crop of a picture is shown, as LLaVA-1.5 does: neither tiles nor the tower of Qwen2.5-VL, whose language model
    is that of ``llava-onevision-qwen2-7b``. The tokenizer is ours, as large as the published one.

    Args:
        folder: to be made.
        name: of a folder in ``tests/real_configs`` whose tower is SigLIP or CLIP.
    """
    published: dict[str, Any] = json.loads((CONFIGS / name / "config.json").read_text())
    text, vision = (dict(published[key]) for key in ("text_config", "vision_config"))
    words = tokenizer(text["vocab_size"])
    ids = {token: words.get_vocab()[token] for token in SPECIAL}
    text |= {"pad_token_id": ids[PAD], "eos_token_id": ids[END], "bos_token_id": None}
    vision |= {"vision_use_head": False} if "siglip" in vision["model_type"] else {}
    side, patch = vision["image_size"], vision["patch_size"]
    with_class = "clip" in vision["model_type"]
    config = LlavaConfig(
        vision_config=CONFIG_MAPPING[vision.pop("model_type")](**vision),
        text_config=CONFIG_MAPPING[text.pop("model_type")](**text),
        image_token_index=ids[IMAGE],
        image_seq_length=(side // patch) ** 2,
        vision_feature_select_strategy="default" if with_class else "full",
        vision_feature_layer=-2 if with_class else -1,
        tie_word_embeddings=False,
        architectures=["LlavaForConditionalGeneration"],
        dtype="bfloat16",
    )
    config.save_pretrained(folder)
    write_processor(folder, words, side, patch, "default" if with_class else "full", int(with_class))
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    return folder
