"""The skeleton of the mini model: a LLaVA-style Hugging Face folder, small enough to ship, without weights."""

import string
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import Unigram
from transformers import (
    GenerationConfig,
    LlavaConfig,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
)
from transformers.models.siglip.image_processing_pil_siglip import (
    SiglipImageProcessorPil,
)

from lmmcl.world.words import WORDS

IMAGE, PAD, END = "<image>", "<|pad|>", "<|end|>"
SPECIAL = (PAD, END, IMAGE, "<|system|>", "<|user|>", "<|assistant|>")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}"
    "{{ '<|end|>' }}"
    "{% endgeneration %}"
    "{% else %}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{{ '<|end|>' }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""One line of turns; an answer and its end-of-turn token stand inside the ``generation`` mark."""


def pieces() -> list[tuple[str, float]]:
    """Lists the vocabulary as Unigram pieces with their log probabilities.

    A word of the world is one piece, with and without its leading space; digits and letters stand alone; behind
    them stand all 256 bytes, so that any text is encoded and decoded without loss. The scores make the fewest
    pieces win, and a byte never wins against a word.
    """
    space = "Ġ"  # the byte-level alphabet's sign for a space
    words = [form for word in WORDS for form in (word, word.capitalize(), space + word)]
    singles = list(string.digits + string.ascii_letters + string.punctuation)
    known = list(dict.fromkeys([*SPECIAL, *singles, *words]))
    alphabet = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - set(known))
    score = dict.fromkeys(singles, -4.0)
    return [(piece, score.get(piece, -1.0)) for piece in known] + [(byte, -10.0) for byte in alphabet]


def tokenizer(max_length: int = 512) -> PreTrainedTokenizerFast:
    """Builds the tokenizer: Unigram over the byte-level alphabet, digits single, no unknown token needed."""
    backend = Tokenizer(Unigram(pieces(), unk_id=None, byte_fallback=False))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    return with_template(backend, model_max_length=max_length, padding_side="right")


def with_template(backend: Tokenizer, **options: Any) -> PreTrainedTokenizerFast:
    """A tokenizer that speaks the mini model's chat template, whatever its words are.

    Args:
        backend: which gets the special tokens.
        options: of transformers' tokenizer.
    """
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens={"image_token": IMAGE},
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        **options,
    )


def write_skeleton(
    folder: str | Path,
    *,
    image_size: int = 48,
    patch_size: int = 12,
    vision_hidden: int = 128,
    vision_layers: int = 4,
    vision_heads: int = 4,
    hidden: int = 160,
    layers: int = 4,
    heads: int = 5,
    kv_heads: int = 5,
    intermediate: int = 480,
    max_length: int = 512,
    initializer_range: float = 0.08,
) -> Path:
    """Writes config, tokenizer, processor and generation config of a small LLaVA model into a folder.

    The model is transformers' own ``LlavaForConditionalGeneration`` with a SigLIP vision tower and a Qwen2 decoder;
    ``AutoModelForImageTextToText`` and ``AutoProcessor`` load the folder without torchvision. No weights are
    written: training from scratch makes them.

    Args:
        folder: where to write; made if missing.
        image_size: side of the square picture in pixels, the world's own size, so that nothing is resized.
        patch_size: side of a vision patch in pixels.
        vision_hidden: width of the vision tower.
        vision_layers: number of its blocks.
        vision_heads: number of its attention heads.
        hidden: width of the decoder.
        layers: number of its layers.
        heads: number of its query heads.
        kv_heads: number of its key and value heads.
        intermediate: width of the gated MLP.
        max_length: most tokens the model is asked to read.
        initializer_range: standard deviation of fresh decoder and projector weights; about 1 / sqrt(hidden). The
            usual 0.02 is meant for widths of thousands and leaves a decoder this narrow nearly silent.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = tokenizer(max_length)
    ids = {token: text.get_vocab()[token] for token in SPECIAL}
    vision = SiglipVisionConfig(
        hidden_size=vision_hidden,
        intermediate_size=4 * vision_hidden,
        num_hidden_layers=vision_layers,
        num_attention_heads=vision_heads,
        image_size=image_size,
        patch_size=patch_size,
        vision_use_head=False,
    )
    decoder = Qwen2Config(
        vocab_size=-(-len(text) // 8) * 8,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        initializer_range=initializer_range,
        pad_token_id=ids[PAD],
        eos_token_id=ids[END],
        bos_token_id=None,
        use_cache=True,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=decoder,
        image_token_index=ids[IMAGE],
        image_seq_length=(image_size // patch_size) ** 2,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        tie_word_embeddings=True,
        architectures=["LlavaForConditionalGeneration"],
        dtype="float32",
    )
    config.save_pretrained(folder)
    size = {"height": image_size, "width": image_size}
    pictures = SiglipImageProcessorPil(
        size=size,
        do_resize=True,
        do_convert_rgb=True,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.25, 0.25, 0.25],
    )
    LlavaProcessor(
        image_processor=pictures,
        tokenizer=text,
        patch_size=patch_size,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        image_token=IMAGE,
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
    GenerationConfig(
        do_sample=False, eos_token_id=ids[END], pad_token_id=ids[PAD], max_new_tokens=32
    ).save_pretrained(folder)
    return folder
