"""Idefics, SmolVLM and Aya Vision: pictures in tiles with markers between them."""

from typing import Any

import transformers

from tests.families import templates
from tests.families.llava_checkpoints import LLAMA_TOKENS
from tests.families.parts import HIDDEN, decoder, named, pictures, vision_tower, with_tokens
from tests.families.vocabulary import byte_fallback, byte_level, llama3


def tiles(kind: str, text: Any, template: str) -> tuple[Any, Any, list[str]]:
    """Idefics3 and SmolVLM: a grid of tiles with markers between them."""
    config = named(
        f"{kind}Config",
        text_config={"model_type": "llama", **decoder(text)},
        vision_config={"image_size": 28, "patch_size": 7} | vision_tower(),
        image_token_id=text.convert_tokens_to_ids("<image>"),
        pad_token_id=text.pad_token_id,
    )
    more = {"video_processor": named("SmolVLMVideoProcessor")} if kind == "SmolVLM" else {}
    processor = named(
        f"{kind}Processor",
        image_processor=pictures(
            f"{kind}ImageProcessor", size={"longest_edge": 84}, max_image_size={"longest_edge": 28}
        ),
        tokenizer=text,
        image_seq_len=4,
        chat_template=template,
        **more,
    )
    return config, processor, ["<end_of_utterance>"]


TILE_MARKS = [
    "<fake_token_around_image>",
    "<image>",
    "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
    "<end_of_utterance>",
]


def idefics3() -> tuple[Any, Any, list[str]]:
    special = ["<|end_of_text|>", "<|eot_id|>", *TILE_MARKS, "<pad>"]
    text = llama3(special, eos_token="<end_of_utterance>", pad_token="<pad>")
    return tiles("Idefics3", text, templates.IDEFICS3)


def smolvlm() -> tuple[Any, Any, list[str]]:
    vocabulary, merges = byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    text = transformers.GPT2Tokenizer(
        vocab=vocabulary,
        merges=merges,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<|im_end|>",
        extra_special_tokens={
            "fake_image_token": "<fake_token_around_image>",
            "image_token": "<image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        },
    )
    return tiles("SmolVLM", with_tokens(text, TILE_MARKS), templates.SMOLVLM)


def idefics2() -> tuple[Any, Any, list[str]]:
    vocabulary, merges = byte_fallback(LLAMA_TOKENS)
    text = transformers.LlamaTokenizer(vocab=vocabulary, merges=merges, pad_token="<unk>")
    text = with_tokens(text, ["<fake_token_around_image>", "<image>", "<end_of_utterance>"])
    config = transformers.Idefics2Config(
        text_config={"model_type": "mistral", **decoder(text)},
        vision_config={"image_size": 56, "patch_size": 7} | vision_tower(),
        perceiver_config={
            "hidden_size": HIDDEN,
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 2,
            "resampler_head_dim": 16,
            "num_key_value_heads": 2,
        },
        image_token_id=text.convert_tokens_to_ids("<image>"),
    )
    processor = transformers.Idefics2Processor(
        image_processor=pictures(
            "Idefics2ImageProcessor", size={"longest_edge": 56, "shortest_edge": 14}, do_image_splitting=False
        ),
        tokenizer=text,
        image_seq_len=4,
        chat_template=templates.IDEFICS2,
    )
    return config, processor, ["</s>", "<end_of_utterance>"]


AYA_TOKENS = [
    "<PAD>", "<UNK>", "<BOS_TOKEN>", "<EOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>",
    "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>",
    "<image>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE_GLOBAL", "TILE",
    *(f"TILE_{number}" for number in range(1, 13)),
]  # fmt: skip


def aya_vision() -> tuple[Any, Any, list[str]]:
    text = llama3(AYA_TOKENS, eos_token="<|END_OF_TURN_TOKEN|>", pad_token="<PAD>")
    text.bos_token = "<BOS_TOKEN>"
    config = transformers.AyaVisionConfig(
        text_config={
            "model_type": "cohere2",
            **decoder(text, tie_word_embeddings=True),
            "sliding_window": 64,
        },
        vision_config={
            "model_type": "siglip_vision_model",
            "vision_use_head": False,
            "image_size": 28,
            "patch_size": 7,
        }
        | vision_tower(),
        image_token_index=text.convert_tokens_to_ids("<|IMG_PATCH|>"),
        downsample_factor=2,
    )
    processor = transformers.AyaVisionProcessor(
        image_processor=pictures(
            "GotOcr2ImageProcessor", size={"height": 28, "width": 28}, max_patches=4, crop_to_patches=True
        ),
        tokenizer=text,
        patch_size=7,
        img_size=28,
        downsample_factor=2,
        chat_template=templates.AYA_VISION,
    )
    return config, processor, ["<|END_OF_TURN_TOKEN|>"]
