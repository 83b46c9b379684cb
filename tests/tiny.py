"""A checkpoint of the mini model's kind, small enough to be made inside a test."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from lmmcl.world.mini import write_skeleton


def tiny_checkpoint(
    folder: str | Path,
    *,
    seed: int = 0,
    hidden: int = 32,
    layers: int = 2,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Writes a whole Hugging Face folder with seeded random weights and returns it."""
    folder = write_skeleton(
        folder,
        vision_hidden=hidden,
        vision_layers=layers,
        vision_heads=2,
        hidden=hidden,
        layers=layers,
        heads=4,
        kv_heads=2,
        intermediate=2 * hidden,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder))
    model.to(dtype).save_pretrained(folder)
    return folder
