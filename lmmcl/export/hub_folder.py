"""A model as a folder that transformers loads and the hub shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import GenerationConfig
from transformers.utils import GENERATION_CONFIG_NAME

from lmmcl.errors import UserError
from lmmcl.loading import Checkpoint
from lmmcl.run.readable_json import as_json

PROVENANCE = "lmmcl.json"
CARD = "README.md"
SHARD = "5GB"
"""Largest file of weights unless the user says otherwise: what the hub and its mirrors take without trouble."""
_SIZE = re.compile(r"[1-9]\d*(KB|MB|GB|KiB|MiB|GiB)")


def check_shard_size(size: str) -> None:
    """Raises UserError where ``--max_shard_size`` is no size as transformers writes it."""
    if not _SIZE.fullmatch(size):
        raise UserError(f"--max_shard_size must be a size such as 5GB or 500MB, got {size!r}.")


def generation_of(checkpoint: Checkpoint, model: Any) -> GenerationConfig:
    """The checkpoint's generation config with all that it says; what the model's config says where it has none."""
    try:
        config: GenerationConfig = GenerationConfig.from_pretrained(
            checkpoint.location, revision=checkpoint.revision or "main"
        )
    except OSError:  # the checkpoint has none
        config = model.generation_config
    return config


def save(
    model: Any, generation: GenerationConfig, processor: Any, to: Path, max_shard_size: str = SHARD
) -> None:
    """Writes weights, config, generation config and processor.

    Args:
        model: with the values to write; its own generation config is set aside.
        generation: to be written as it is.
        processor: tokenizer, image processor and chat template.
        to: folder, made if missing.
        max_shard_size: as transformers writes sizes.
    """
    # Not by save_pretrained of the model: it refuses settings that contradict each other, which checkpoints have
    # (a temperature beside do_sample: false), and a model made from scratch knows only what its config says.
    model.generation_config = GenerationConfig()
    model.save_pretrained(to, max_shard_size=max_shard_size)
    generation.to_json_file(to / GENERATION_CONFIG_NAME)
    processor.save_pretrained(to)


def describe(to: Path, provenance: Mapping[str, Any], card: str) -> None:
    """Writes where a model comes from, for programs and for people.

    Args:
        to: folder of the model.
        provenance: plain values, without secrets and paths.
        card: Markdown.
    """
    (to / PROVENANCE).write_bytes(as_json(provenance))
    (to / CARD).write_bytes(card.encode())
