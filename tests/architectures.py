"""Every image-text-to-text architecture of the installed transformers that builds from its default config."""

from functools import cache

import torch
from torch import nn
from transformers import AutoModelForImageTextToText
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as NAMES

from lmmcl.anatomy import Anatomy


def on_meta(architecture: str) -> nn.Module | None:
    """The architecture on the meta device; None where its default config does not build one."""
    try:
        config = CONFIG_MAPPING[architecture]()
        with torch.device("meta"):
            return AutoModelForImageTextToText.from_config(config)
    # Whatever an unfinished default config or a missing optional package raises.
    except Exception:
        return None


@cache
def anatomies() -> dict[str, Anatomy]:
    """Architecture to anatomy, of all that build."""
    models = ((name, on_meta(name)) for name in NAMES)
    return {name: Anatomy.of(model) for name, model in models if model is not None}
