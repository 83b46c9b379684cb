"""Which projection of a decoder layer a parameter belongs to, read from the layer's own module tree."""

from __future__ import annotations

import re

from torch import nn

__all__ = ["is_norm", "role_in_layer"]

_ATTENTION = {
    "q": {"q", "q_proj", "query", "query_proj", "wq", "q_a_proj", "q_b_proj"},
    "k": {"k", "k_proj", "key", "key_proj", "wk"},
    "v": {"v", "v_proj", "value", "value_proj", "wv"},
    "o": {"o", "o_proj", "out_proj", "output", "dense", "proj", "wo", "c_proj", "projection_layer"},
    "qkv": {"qkv", "qkv_proj", "query_key_value", "c_attn", "wqkv", "att_proj"},
    # Latent attention: keys and values come from one low-rank product; no slice of it is the values alone.
    "kv": {"kv", "kv_proj", "kv_a_proj", "kv_a_proj_with_mqa", "kv_b_proj"},
    "gate": {"gate_proj", "g_proj", "g_a_proj", "g_b_proj"},
}
_MLP = {
    "gate": {"gate_proj", "gate", "wi_0", "w1"},
    "up": {"up_proj", "up", "wi_1", "w3", "fc1", "wi", "lin1", "dense_h_to_4h", "c_fc", "intermediate"},
    "down": {"down_proj", "down", "wo", "w2", "fc2", "lin2", "dense_4h_to_h", "c_proj", "output"},
    "gate_up": {"gate_up_proj", "gate_up", "w12"},
}
_NORM_CLASS = re.compile(r"Norm(Gated|\dd)?$")
_NORM = re.compile(r"norm|(^|_)ln(_|\d|$)", re.IGNORECASE)
_CROSS = re.compile(r"cross|encoder_attn|enc_?dec|encoder_decoder", re.IGNORECASE)
_CHOOSER = re.compile(r"^(indexer|(modality_)?router|moe_statics|shared_expert_gate)$")
_EXTRA = re.compile(r"^(per_layer_|altup|laurel|(pre|post)_expert_proj$|[br]_proj$|sink_proj$)")
_CONVOLUTION = re.compile(r"sconv|conv1d|short_?conv|convolution")
_RECURRENCE = {"A_log", "dt_bias"}


def is_norm(owner: nn.Module, leaf: str) -> bool:
    """Whether a parameter normalises: by the class of the module that holds it, or by that module's name."""
    return bool(_NORM_CLASS.search(type(owner).__name__) or _NORM.search(leaf))


def role_in_layer(layer: nn.Module, inner: str) -> str | None:
    """Name the group of one parameter of a decoder layer.

    What a part is follows from what it holds: queries and keys make attention, a recurrence or a 1-D
    convolution another mixer of tokens, an up and a down projection an MLP, wherever the part stands and
    however it is called (``mixer`` is each of the three in some model). Only leaves are known by their names.

    Args:
        layer: the decoder layer.
        inner: the parameter's name inside the layer, such as ``self_attn.q_proj.weight``.

    Returns:
        The group; ``other`` for position tables, for bare scales and gates, and for what only chooses
        (routers of experts, indexers of sparse attention); None where no rule applies.
    """
    *modules, last = inner.split(".")
    owners = [layer]
    for name in modules:
        owners.append(owners[-1].get_submodule(name))
    owner = owners[-1]
    bare = last not in {"weight", "bias"} or not hasattr(owner, "weight")
    path = [*modules, last.removesuffix("_bias")] if bare else modules
    if any(_CHOOSER.match(part) for part in path) or _is_router(owners, path):
        return "other"
    if is_norm(owner, path[-1]):
        return "llm.norm"
    if isinstance(owner, nn.Embedding):
        return "other"
    if any(_EXTRA.match(part) for part in path):
        return "llm.extra"
    if bare and getattr(owner, last).ndim < 2 and not any(_kind(part) == "mixer" for part in owners[1:]):
        return "other"
    # The nearest part of one kind decides; the layer itself is of several.
    for level in range(len(path) - 1, 0, -1):
        kind, below = _kind(owners[level]), path[level]
        if kind == "mixer":
            return "llm.mixer"
        if kind == "attention" and (role := _find(_ATTENTION, below)):
            return f"llm.{'cross_attn' if any(_CROSS.search(part) for part in path) else 'attn'}.{role}"
        if kind == "mlp" and (role := _find(_MLP, below)):
            plain = path[-1] == "w1" and not hasattr(owners[level], "w3")
            return "llm.mlp.up" if plain else f"llm.mlp.{role}"
    if isinstance(owner, nn.Conv1d) or any(_CONVOLUTION.search(part) for part in path):
        return "llm.mixer"
    if not bare and (role := _find(_MLP, path[0])):
        return f"llm.mlp.{role}"
    return "other" if bare and getattr(owner, last).ndim < 3 else None


def _find(table: dict[str, set[str]], name: str) -> str | None:
    return next((role for role, names in table.items() if name in names or name.lower() in names), None)


def _is_router(owners: list[nn.Module], path: list[str]) -> bool:
    """A ``gate`` beside ``experts`` chooses among them; anywhere else it is an MLP's gate."""
    beside = zip(owners, path, strict=False)
    return any(part == "gate" and hasattr(owner, "experts") for owner, part in beside)


def _kind(part: nn.Module) -> str | None:
    """``attention``, ``mixer`` or ``mlp``, from the names of what a part holds; None where none fits."""
    own = {name.rpartition(".")[2] for name, _ in part.named_parameters()}
    held = own | {name.rpartition(".")[2] for name, _ in part.named_modules()}
    if held & _ATTENTION["qkv"] or (held & _ATTENTION["q"] and held & (_ATTENTION["k"] | _ATTENTION["kv"])):
        return "attention"
    if own & _RECURRENCE or any(isinstance(module, nn.Conv1d) for module in part.modules()):
        return "mixer"
    if held & _MLP["down"] and held & (_MLP["up"] | _MLP["gate_up"] | _MLP["gate"]):
        return "mlp"
    return None
