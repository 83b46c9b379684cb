"""Every image-text-to-text architecture of the installed transformers that builds from its default config."""

from functools import cache

import torch
from torch import nn
from transformers import AutoModelForImageTextToText
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as NAMES

from lmmcl.structure.anatomy import Anatomy


@cache
def models() -> dict[str, nn.Module]:
    """Architecture to model, on the meta device."""
    built = {}
    for name in NAMES:
        try:
            config = CONFIG_MAPPING[name]()
            with torch.device("meta"):
                built[name] = AutoModelForImageTextToText.from_config(config)
        # Whatever an unfinished default config or a missing optional package raises.
        except Exception:  # noqa: BLE001
            continue
    return built


@cache
def anatomies() -> dict[str, Anatomy]:
    """Architecture to anatomy."""
    return {name: Anatomy.of(model) for name, model in models().items()}
