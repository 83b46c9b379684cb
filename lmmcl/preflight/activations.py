"""What a forward keeps for its backward, estimated from a model's shape and from what trains."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

_VISION_BYTES = 34
"""Bytes a token and unit of width that a classic transformer block keeps in 16 bit (arXiv 2205.05198, equation 1)."""
_LOGITS_AT_ONCE = 1 << 25
"""Logits of one chunk of answer tokens (`lmmcl.outputs.token_outputs`)."""
_ROWS_AT_ONCE = 1 << 23
"""Logits that a loss gets at once on a GPU (`lmmcl.outputs.logit_rows`)."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder, and of a vision tower.

    Args:
        hidden: width of the decoder.
        layers: its layers.
        inner: width of its MLP; of a mixture of experts, of all experts that a token meets.
        queries: width of all query heads together.
        keys: width of all key heads together.
        heads: query heads.
        vocabulary: words.
        vision_hidden: width of the vision tower; 0 where it is not known.
        vision_layers: its blocks.
        patch: numbers of a picture that make one token of the tower.
        mlps: MLPs of a layer that every token goes through: 2 with the copies of MoE.
    """

    hidden: int
    layers: int
    inner: int
    queries: int
    keys: int
    heads: int
    vocabulary: int
    vision_hidden: int = 0
    vision_layers: int = 0
    patch: int = 1
    mlps: int = 1

    @classmethod
    def of(cls, config: Any, layers: int, vision_layers: int) -> Shape | None:
        """The shape that a config gives; None where it does not name the widths.

        Args:
            config: of the whole model.
            layers: decoder layers.
            vision_layers: vision blocks.
        """
        text, vision = config.get_text_config(), getattr(config, "vision_config", None)
        hidden, heads = (getattr(text, name, None) for name in ("hidden_size", "num_attention_heads"))
        if not isinstance(hidden, int) or not isinstance(heads, int):
            return None
        width = getattr(text, "head_dim", None) or hidden // heads
        experts = getattr(text, "num_experts_per_tok", None)
        inner = getattr(text, "intermediate_size", None) or 4 * hidden
        if experts:
            inner = experts * (getattr(text, "moe_intermediate_size", None) or inner)
        patch = getattr(vision, "patch_size", None) or 0
        depth = getattr(vision, "temporal_patch_size", None) or 1
        tower = [getattr(vision, name, None) for name in ("hidden_size", "embed_dim")]
        return cls(
            hidden,
            layers,
            inner,
            heads * width,
            (getattr(text, "num_key_value_heads", None) or heads) * width,
            heads,
            text.vocab_size,
            next((size for size in reversed(tower) if isinstance(size, int)), 0),
            vision_layers,
            3 * depth * patch**2 if isinstance(patch, int) and patch else 1,
        )


def layer_bytes(shape: Shape, trained: Collection[str], length: int, eager: bool, each: int = 2) -> float:
    """Bytes that one decoder layer keeps for the backward pass, per token.

    The count of Korthikanti et al. (arXiv 2205.05198, section 4.1) for what is trained here: RMS norms in fp32, grouped
    queries, a gated MLP, fused attention, and linear layers that keep their input only where their weight trains::

        2 · 4 h                     two norms, their inputs in fp32
        + e (2 q + 2 k)             queries, keys, values, output of the attention
        + e 3 i                     gate, its activation, up; of each MLP where there is a frozen one and its copy
        + e 2 h                     with these two, what either gives
        + e (h + q + h + i)         inputs of q/k/v, o, gate/up, down: each where it trains
        + 6 a s                     probabilities in fp32 and in bf16, where the attention is not fused

    with h hidden, q and k the widths of all query and key heads, i the inner width, a heads, s tokens of a sample,
    e bytes of a number. Tests compare it with what autograd keeps.

    Args:
        shape: of the model.
        trained: groups that train (``llm.attn.q``, ...).
        length: tokens of a sample.
        eager: the attention writes its scores out.
        each: bytes of a number: 2 in bf16, 4 in fp32.
    """
    kept = 2.0 * 4 * shape.hidden + each * (2 * shape.queries + 2 * shape.keys + 3 * shape.inner * shape.mlps)
    if shape.mlps > 1:
        kept += each * shape.mlps * shape.hidden
    if set(trained) & {"llm.attn.q", "llm.attn.k", "llm.attn.v", "llm.attn.qkv", "llm.attn.kv"}:
        kept += each * shape.hidden
    if "llm.attn.o" in trained:
        kept += each * shape.queries
    if set(trained) & {"llm.mlp.gate", "llm.mlp.up", "llm.mlp.gate_up"}:
        kept += each * shape.hidden
    if "llm.mlp.down" in trained:
        kept += each * shape.inner
    return kept + (6 * shape.heads * length if eager else 0)


def training_bytes(
    shape: Shape,
    trained: Collection[str],
    *,
    first: int,
    tokens: int,
    length: int,
    pixels: int,
    answers: int,
    checkpointing: Collection[str],
    eager: bool,
    each: int = 2,
) -> int:
    """Bytes of activations at the peak of a training step.

    Layers below the first trained one keep nothing, nor does a frozen vision tower. With activation checkpointing a
    layer keeps its input alone (``e h`` a token), and one layer at a time is whole.

    Args:
        shape: of the model.
        trained: groups that train.
        first: depth of the first decoder layer that the gradient reaches.
        tokens: of the micro-batch, padding included.
        length: of its longest sample.
        pixels: numbers that its pictures put into the vision tower.
        answers: its answer tokens.
        checkpointing: parts whose activations are computed again: ``vision``, ``llm``.
        eager: the attention writes its scores out.
        each: bytes of a number.
    """
    layer = layer_bytes(shape, trained, length, eager, each) * tokens
    layers = shape.layers - first
    patches = pixels // shape.patch
    block = _VISION_BYTES * each / 2 * shape.vision_hidden * patches if {"vision"} & set(trained) else 0.0
    blocks = shape.vision_layers
    kept = layers * each * shape.hidden * tokens + layer if "llm" in checkpointing else layers * layer
    if block:
        again = blocks * each * shape.vision_hidden * patches + block
        kept += again if "vision" in checkpointing else blocks * block
    # A chunk of logits, their gradient, and that scaled; of a few rows, what a loss makes in fp32.
    chunk = min(_LOGITS_AT_ONCE, answers * shape.vocabulary)
    logits = 3 * each * chunk + 4 * 4 * min(_ROWS_AT_ONCE, chunk)
    return round(kept + logits)


def generation_bytes(shape: Shape, tokens: int, each: int = 2) -> int:
    """Bytes of one batch of generation: keys and values of all layers, and one layer of the prompts at work.

    Args:
        shape: of the model.
        tokens: of all prompts and answers of the batch.
        each: bytes of a number.
    """
    cache = 2 * shape.layers * shape.keys
    work = 3 * shape.inner * shape.mlps + 4 * shape.hidden
    return each * tokens * (cache + work)
