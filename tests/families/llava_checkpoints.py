"""LLaVA and its kin: one vision tower, one projector, pictures first."""

from typing import Any

import transformers

from tests.families import templates
from tests.families.parts import decoder, named, pictures, vision_tower, with_tokens
from tests.families.qwen_checkpoints import qwen_text
from tests.families.vocabulary import byte_fallback, llama3


def llava_onevision() -> tuple[Any, Any, list[str]]:
    text = qwen_text(["<|im_start|>", "<|im_end|>", "<image>", "<video>"])
    text.add_special_tokens({"pad_token": "<|endoftext|>"})
    pinpoints = [[28 * row, 28 * column] for row in range(1, 7) for column in range(1, 7)]
    config = transformers.LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **decoder(text)},
        vision_config={
            "model_type": "siglip_vision_model",
            "vision_use_head": False,
            "image_size": 28,
            "patch_size": 7,
        }
        | vision_tower(),
        image_token_index=text.convert_tokens_to_ids("<image>"),
        video_token_index=text.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=pinpoints,
    )
    processor = transformers.LlavaOnevisionProcessor(
        image_processor=pictures(
            "LlavaOnevisionImageProcessor", size={"height": 28, "width": 28}, image_grid_pinpoints=pinpoints
        ),
        video_processor=named("LlavaOnevisionVideoProcessor", size={"height": 28, "width": 28}),
        tokenizer=text,
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=templates.LLAVA_ONEVISION,
    )
    return config, processor, ["<|im_end|>"]


def llava_next() -> tuple[Any, Any, list[str]]:
    special = [
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<image>",
        "<pad>",
    ]
    text = llama3(special, eos_token="<|eot_id|>", pad_token="<pad>")
    pinpoints = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]
    config = transformers.LlavaNextConfig(
        text_config={"model_type": "llama", **decoder(text)},
        vision_config={"model_type": "clip_vision_model", "image_size": 28, "patch_size": 7} | vision_tower(),
        image_token_index=text.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=pinpoints,
    )
    processor = transformers.LlavaNextProcessor(
        image_processor=pictures(
            "LlavaNextImageProcessor",
            size={"shortest_edge": 28},
            crop_size={"height": 28, "width": 28},
            image_grid_pinpoints=pinpoints,
        ),
        tokenizer=text,
        patch_size=7,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=templates.LLAVA_NEXT_LLAMA3,
    )
    return config, processor, ["<|eot_id|>", "<|end_of_text|>"]


LLAMA_TOKENS = ["<unk>", "<s>", "</s>"]


def llava() -> tuple[Any, Any, list[str]]:
    vocabulary, merges = byte_fallback(LLAMA_TOKENS)
    text = transformers.LlamaTokenizer(
        vocab=vocabulary,
        merges=merges,
        pad_token="<pad>",
    )
    text = with_tokens(text, ["<image>"])
    config = transformers.LlavaConfig(
        text_config={"model_type": "llama", **decoder(text)},
        vision_config={"model_type": "clip_vision_model", "image_size": 28, "patch_size": 7} | vision_tower(),
        image_token_index=text.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )
    processor = transformers.LlavaProcessor(
        image_processor=pictures(
            "CLIPImageProcessor", size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
        ),
        tokenizer=text,
        patch_size=7,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=templates.LLAVA,
    )
    return config, processor, ["</s>"]


def vipllava() -> tuple[Any, Any, list[str]]:
    _, processor, ends = llava()
    text = processor.tokenizer
    processor.chat_template = templates.VIPLLAVA
    config = transformers.VipLlavaConfig(
        text_config={"model_type": "llama", **decoder(text)},
        vision_config={"model_type": "clip_vision_model", "image_size": 28, "patch_size": 7} | vision_tower(),
        image_token_index=text.convert_tokens_to_ids("<image>"),
        vision_feature_layer=[-1, -2],
        image_seq_length=16,
    )
    return config, processor, ends
