"""The sizes of a model from which follows what a callback keeps of its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmmcl.structure.anatomy import Anatomy

_HEADS = ("llm.head", "llm.embed+head")


@dataclass(frozen=True)
class Widths:
    """Sizes of a language model; 0 where its config does not name one.

    Args:
        vocabulary: words.
        hidden: width.
        layers: decoder layers.
        each: bytes of a number in a forward: 2 in bf16, else 4.
        head: parameters of the output embedding where any task trains it, else 0.
    """

    vocabulary: int = 0
    hidden: int = 0
    layers: int = 0
    each: int = 2
    head: int = 0

    @classmethod
    def of(cls, config: Any, anatomy: Anatomy, trained: Sequence[Mapping[str, str]], bf16: bool) -> Widths:
        """The sizes of a model.

        Args:
            config: of the whole model.
            anatomy: of the model.
            trained: what each task trains, parameter to group.
            bf16: whether forwards compute in bf16.
        """
        text = config.get_text_config()
        sizes = (getattr(text, name, None) for name in ("vocab_size", "hidden_size"))
        vocabulary, hidden = (size if isinstance(size, int) else 0 for size in sizes)
        heads = {name for names in trained for name, group in names.items() if group in _HEADS}
        head = sum(anatomy.numel.get(name, 0) for name in heads)
        return cls(vocabulary, hidden, len(anatomy.decoder_layers), 2 if bf16 else 4, head)
