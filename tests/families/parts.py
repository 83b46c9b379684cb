"""Parts that the makers of tiny checkpoints share: small sizes, and classes by name."""

from typing import Any

import transformers
from tokenizers import AddedToken

HIDDEN = 32


def named(name: str, **arguments: Any) -> Any:
    """An object of transformers' class of that name: some of them cannot be imported without torchvision."""
    return getattr(transformers, name)(**arguments)


def pictures(name: str, **arguments: Any) -> Any:
    """The image processor that needs no torchvision, where there is one."""
    found = name + "Pil" if hasattr(transformers, name + "Pil") else name
    return named(found, **arguments)


def decoder(text: Any, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(text),
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 8192,
        "pad_token_id": text.pad_token_id,
        "bos_token_id": text.bos_token_id,
        "eos_token_id": text.eos_token_id,
        "tie_word_embeddings": False,
        **more,
    }


def vision_tower(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        **more,
    }


def with_tokens(text: Any, special: list[str]) -> Any:
    """The tokenizer with further control tokens."""
    text.add_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return text
