"""Tiny tokenizers of the two kinds that the families use, with each family's own class and control tokens."""

import json
from collections.abc import Sequence
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

WORDS = (
    "user assistant model system You are a helpful assistant. How many circles are there? What colour is it? "
    "Which one is larger: the first or the second? Answer with one word. red blue green yes no left right three "
    "USER: ASSISTANT: User: Assistant: Picture Name every picture. a red circle and a blue square 0 1 2 3 4 5 6 7 8 9"
)
LINES = ["\n", "\n\n", "\n\n\n", "\n\n\n\n"]
"""Runs of line breaks are single tokens in every large vocabulary: templates and answers may share one."""

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def _corpus() -> list[str]:
    return [WORDS, WORDS.lower(), *(f"word{line}word" for line in LINES for _ in range(9))]


def byte_level(special: Sequence[str] = ()) -> tuple[dict[str, int], Any]:
    """Vocabulary and merges of a byte-level BPE, as GPT-2, Llama 3, Qwen and SmolLM have it.

    Args:
        special: control tokens to put in front of the vocabulary.
    """
    text = Tokenizer(BPE())
    text.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(
        vocab_size=400 + len(special),
        special_tokens=list(special),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    text.train_from_iterator(_corpus(), trainer)
    return text.get_vocab(), _merges(text)


def byte_fallback(special: Sequence[str], lines: bool = False) -> tuple[dict[str, int], Any]:
    """Vocabulary and merges as converted from SentencePiece: words begin with ``▁``, unknown text becomes bytes.

    Args:
        special: control tokens, the first of the vocabulary.
        lines: whether runs of line breaks are tokens (Gemma) or bytes (Llama).
    """
    text = Tokenizer(BPE())
    text.normalizer = normalizers.Replace(" ", "▁")
    text.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    letters = sorted(set(WORDS + "▁") | set(LINES[:1] if lines else []))
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = BpeTrainer(
        vocab_size=400 + len(special) + len(letters),
        special_tokens=[*special, *fallback],
        initial_alphabet=letters,
        show_progress=False,
    )
    text.train_from_iterator(_corpus() if lines else [WORDS, WORDS.lower()], trainer)
    return text.get_vocab(), _merges(text)


def _merges(text: Tokenizer) -> list[tuple[str, ...]]:
    return [tuple(pair) for pair in json.loads(text.to_str())["model"]["merges"]]


def llama3(special: Sequence[str], **named: str) -> Any:
    """Llama 3's tokenizer, which is no class of its own but the generic one with a file."""
    vocabulary, merges = byte_level()
    text = Tokenizer(BPE(vocabulary, merges, ignore_merges=True))
    text.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    text.decoder = decoders.ByteLevel()
    text.add_special_tokens(["<|begin_of_text|>", *special])
    begin = ("<|begin_of_text|>", text.token_to_id("<|begin_of_text|>"))
    text.post_processor = TemplateProcessing(
        single=f"{begin[0]} $A", pair=f"{begin[0]} $A {begin[0]} $B", special_tokens=[begin]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=text, bos_token="<|begin_of_text|>", clean_up_tokenization_spaces=False, **named
    )
