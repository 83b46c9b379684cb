"""The Qwen-VL families, whose features depend on the size of a picture, and InternVL, which speaks as they do."""

from typing import Any

import transformers

from tests.families import templates
from tests.families.parts import HIDDEN, decoder, named, pictures, vision_tower, with_tokens
from tests.families.vocabulary import byte_level

QWEN_TOKENS = [
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]


def qwen_text(special: list[str], **named: str) -> Any:
    vocabulary, merges = byte_level(["<|endoftext|>"])
    text = transformers.Qwen2Tokenizer(
        vocab=vocabulary,
        merges=merges,
        eos_token="<|im_end|>",
        extra_special_tokens=named,
    )
    return with_tokens(text, special)


def qwen_vl(kind: str) -> tuple[Any, Any, list[str]]:
    text = qwen_text(QWEN_TOKENS)
    third = kind in ("Qwen3VL", "Qwen3_5")
    vision: dict[str, Any] = {"depth": 2, "num_heads": 2, "patch_size": 16 if third else 14}
    if kind == "Qwen2VL":
        vision |= {"embed_dim": HIDDEN, "hidden_size": HIDDEN, "mlp_ratio": 2}
    else:
        vision |= {"hidden_size": HIDDEN, "out_hidden_size": HIDDEN, "intermediate_size": 2 * HIDDEN}
    if kind == "Qwen2_5_VL":
        vision |= {"fullatt_block_indexes": [1], "window_size": 56}
    if third:
        vision |= {"num_position_embeddings": 64}
    if kind == "Qwen3VL":
        vision |= {"deepstack_visual_indexes": [0, 1]}
    more: dict[str, Any] = {}
    if kind == "Qwen3_5":
        more = {
            "layer_types": ["linear_attention", "full_attention"],
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
        }
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    names = {key: text.convert_tokens_to_ids(f"<|{token}|>") for key, token in {
        "image_token_id": "image_pad",
        "video_token_id": "video_pad",
        "vision_start_token_id": "vision_start",
        "vision_end_token_id": "vision_end",
    }.items()}  # fmt: skip
    config = named(
        f"{kind}Config",
        text_config=decoder(
            text, rope_parameters=rope | ({"mrope_interleaved": True} if third else {}), **more
        ),
        vision_config=vision,
        **names,
    )
    edges = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 24}
    processor = named(
        "Qwen3VLProcessor" if third else f"{kind}Processor",
        image_processor=pictures("Qwen2VLImageProcessor", size=edges, patch_size=vision["patch_size"]),
        video_processor=named("Qwen3VLVideoProcessor" if third else "Qwen2VLVideoProcessor"),
        tokenizer=text,
        chat_template={"Qwen3VL": templates.QWEN3_VL, "Qwen3_5": templates.QWEN3_5}.get(
            kind, templates.QWEN2_VL
        ),
    )
    return config, processor, ["<|im_end|>", "<|endoftext|>"]


def internvl() -> tuple[Any, Any, list[str]]:
    text = qwen_text(
        ["<|im_start|>", "<|im_end|>"],
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    config = transformers.InternVLConfig(
        text_config={"model_type": "qwen2", **decoder(text)},
        vision_config={"image_size": [28, 28], "patch_size": [7, 7]} | vision_tower(),
        image_token_id=text.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    processor = transformers.InternVLProcessor(
        image_processor=pictures("GotOcr2ImageProcessor", size={"height": 28, "width": 28}, max_patches=4),
        video_processor=named("InternVLVideoProcessor"),
        tokenizer=text,
        image_seq_length=4,
        chat_template=templates.INTERNVL,
    )
    return config, processor, ["<|im_end|>"]
