"""Gemma 3 and PaliGemma, whose prompts are read in both directions, and Mistral 3."""

from typing import Any

import transformers

from tests.families import templates
from tests.families.parts import HIDDEN, decoder, pictures, vision_tower, with_tokens
from tests.families.vocabulary import byte_fallback, llama3

GEMMA_TOKENS = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]


def gemma3() -> tuple[Any, Any, list[str]]:
    named = {
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
    }
    vocabulary, merges = byte_fallback([*GEMMA_TOKENS, "<start_of_turn>", "<end_of_turn>"], lines=True)
    text = transformers.GemmaTokenizer(
        vocab=vocabulary,
        merges=merges,
        extra_special_tokens=named,
    )
    text = with_tokens(text, ["<start_of_turn>", "<end_of_turn>"])
    config = transformers.Gemma3Config(
        text_config=decoder(text, tie_word_embeddings=True, sliding_window=16, query_pre_attn_scalar=8),
        vision_config={"image_size": 28, "patch_size": 7, "vision_use_head": False} | vision_tower(),
        mm_tokens_per_image=4,
        boi_token_index=text.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=text.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=text.convert_tokens_to_ids("<image_soft_token>"),
    )
    processor = transformers.Gemma3Processor(
        image_processor=pictures("Gemma3ImageProcessor", size={"height": 28, "width": 28}),
        tokenizer=text,
        image_seq_length=4,
        chat_template=templates.GEMMA3,
    )
    return config, processor, ["<eos>", "<end_of_turn>"]


def paligemma() -> tuple[Any, Any, list[str]]:
    vocabulary, merges = byte_fallback(GEMMA_TOKENS, lines=True)
    text = transformers.GemmaTokenizer(
        vocab=vocabulary, merges=merges, extra_special_tokens={"image_token": "<image>"}
    )
    siglip = pictures("SiglipImageProcessor", size={"height": 28, "width": 28})
    siglip.image_seq_length = 16
    processor = transformers.PaliGemmaProcessor(image_processor=siglip, tokenizer=text)
    config = transformers.PaliGemmaConfig(
        text_config={"model_type": "gemma2", **decoder(text, tie_word_embeddings=True)},
        vision_config={"image_size": 28, "patch_size": 7, "vision_use_head": False, "projection_dim": HIDDEN}
        | vision_tower(),
        vocab_size=len(text),
        projection_dim=HIDDEN,
        hidden_size=HIDDEN,
    )
    config.image_token_index = text.vocab["<image>"]
    return config, processor, ["<eos>"]


def mistral3() -> tuple[Any, Any, list[str]]:
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"]
    special += ["[IMG]", "[IMG_BREAK]", "[IMG_END]", "<pad>"]
    text = llama3(special[3:-1], eos_token="</s>", pad_token="<pad>")
    text.add_special_tokens({"bos_token": "<s>"})
    config = transformers.Mistral3Config(
        text_config={"model_type": "mistral", **decoder(text)},
        vision_config={"model_type": "pixtral", "image_size": 112, "patch_size": 7, "head_dim": 16}
        | vision_tower(),
        image_token_index=text.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
        tie_word_embeddings=False,
    )
    processor = transformers.PixtralProcessor(
        image_processor=pictures("PixtralImageProcessor", size={"longest_edge": 112}, patch_size=14),
        tokenizer=text,
        patch_size=7,
        spatial_merge_size=2,
        chat_template=templates.MISTRAL3,
    )
    return config, processor, ["</s>"]
