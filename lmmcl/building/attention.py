"""Which attention kernel a model runs with where the YAML names none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers.utils import is_flash_attn_2_available

if TYPE_CHECKING:
    from lmmcl.loading import Checkpoint

FLASH = "flash_attention_2"


def attention_for(device: torch.device, bf16: bool, checkpoint: Checkpoint) -> str | None:
    """Transformers' name of the kernel to take; None leaves the choice to transformers, which takes ``sdpa``.

    Flash attention computes in 16 bits only, and not every architecture has it: the model is tried without its weights.

    Args:
        device: where the model runs.
        bf16: whether forwards compute in bf16.
        checkpoint: of the model.
    """
    if device.type == "cpu":
        # Torch's fused attention has a slow backward on a CPU: a step of the mini model took 8 times as long.
        return "eager"
    if device.type != "cuda" or not bf16 or not is_flash_attn_2_available():
        return None
    try:
        checkpoint.skeleton(torch.bfloat16, FLASH)
    except (ValueError, ImportError):  # what transformers says of an architecture or a machine without it
        return None
    return FLASH
