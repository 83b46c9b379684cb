"""Makes a tiny checkpoint of a family: real classes, control tokens and chat template; small sizes, random weights."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, GenerationConfig

from tests.families.gemma_checkpoints import gemma3, mistral3, paligemma
from tests.families.llava_checkpoints import llava, llava_next, llava_onevision, vipllava
from tests.families.qwen_checkpoints import internvl, qwen_vl
from tests.families.tile_checkpoints import aya_vision, idefics2, idefics3, smolvlm


@dataclass(frozen=True)
class Family:
    """One kind of checkpoint.

    Args:
        name: of the family.
        make: returns config, processor and ids that end an answer.
        end: the token that ends an answer.
        image: the token that stands for one feature of a picture.
        torchvision: its processor cannot be built without torchvision.
    """

    name: str
    make: Callable[[], tuple[Any, Any, list[str]]]
    end: str
    image: str
    torchvision: bool = False

    @property
    def available(self) -> bool:
        """Whether its processor can be built here."""
        return not self.torchvision or find_spec("torchvision") is not None


def checkpoint(family: Family, folder: Path, seed: int = 0) -> Path:
    """Writes a whole Hugging Face folder and returns it."""
    config, processor, ends = family.make()
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    # Published files name the image processor without its backend.
    path = folder / "processor_config.json"
    written = json.loads(path.read_text())
    written["image_processor"]["image_processor_type"] = written["image_processor"][
        "image_processor_type"
    ].removesuffix("Pil")
    path.write_text(json.dumps(written))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
        # The usual 0.02 is meant for widths of thousands and leaves a decoder this narrow nearly silent.
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.12)
    text = processor.tokenizer
    model.generation_config = GenerationConfig(
        eos_token_id=[text.convert_tokens_to_ids(token) for token in ends], pad_token_id=text.pad_token_id
    )
    model.save_pretrained(folder)
    return folder


FAMILIES = {
    family.name: family
    for family in (
        Family("llava-onevision", llava_onevision, "<|im_end|>", "<image>", torchvision=True),
        Family("llava-next", llava_next, "<|eot_id|>", "<image>"),
        Family("qwen2.5-vl", partial(qwen_vl, "Qwen2_5_VL"), "<|im_end|>", "<|image_pad|>", torchvision=True),
        Family("qwen2-vl", partial(qwen_vl, "Qwen2VL"), "<|im_end|>", "<|image_pad|>", torchvision=True),
        Family("qwen3-vl", partial(qwen_vl, "Qwen3VL"), "<|im_end|>", "<|image_pad|>", torchvision=True),
        Family("qwen3.5", partial(qwen_vl, "Qwen3_5"), "<|im_end|>", "<|image_pad|>", torchvision=True),
        Family("internvl", internvl, "<|im_end|>", "<IMG_CONTEXT>", torchvision=True),
        Family("gemma3", gemma3, "<end_of_turn>", "<image_soft_token>"),
        Family("smolvlm", smolvlm, "<end_of_utterance>", "<image>", torchvision=True),
        Family("idefics3", idefics3, "<end_of_utterance>", "<image>"),
        Family("idefics2", idefics2, "<end_of_utterance>", "<image>"),
        Family("paligemma", paligemma, "<eos>", "<image>"),
        Family("llava", llava, "</s>", "<image>"),
        Family("vipllava", vipllava, "</s>", "<image>"),
        Family("mistral3", mistral3, "</s>", "[IMG]", torchvision=True),
        Family("aya-vision", aya_vision, "<|END_RESPONSE|><|END_OF_TURN_TOKEN|>", "<|IMG_PATCH|>"),
    )
}
