"""The parts of a large multimodal model, found from its module tree: every parameter in exactly one group."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from torch import nn

from lmmcl.errors import UserError
from lmmcl.structure.decoder_layer import is_norm, role_in_layer
from lmmcl.structure.landmarks import Landmarks, inside, prefixes

__all__ = ["GROUPS", "Anatomy"]

GROUPS = {
    "vision": "vision tower",
    "projector": "from the tower's output into the language model",
    "llm.embed": "token embeddings",
    "llm.embed+head": "token embeddings and head, one tied tensor",
    "llm.attn.q": "self-attention: queries",
    "llm.attn.k": "self-attention: keys",
    "llm.attn.v": "self-attention: values",
    "llm.attn.kv": "self-attention: keys and values, from one latent product",
    "llm.attn.qkv": "self-attention: queries, keys and values in one tensor",
    "llm.attn.o": "self-attention: output",
    "llm.attn.gate": "self-attention: gate on the output",
    "llm.cross_attn.q": "attention to picture or encoder: queries",
    "llm.cross_attn.k": "attention to picture or encoder: keys",
    "llm.cross_attn.v": "attention to picture or encoder: values",
    "llm.cross_attn.kv": "attention to picture or encoder: keys and values in one tensor",
    "llm.cross_attn.qkv": "attention to picture or encoder: all three in one tensor",
    "llm.cross_attn.o": "attention to picture or encoder: output",
    "llm.cross_attn.gate": "attention to picture or encoder: gate on the output",
    "llm.mixer": "other mixers of tokens: linear attention, state space, short convolution",
    "llm.mlp.gate": "MLP: gate",
    "llm.mlp.up": "MLP: up",
    "llm.mlp.gate_up": "MLP: gate and up in one tensor",
    "llm.mlp.down": "MLP: down",
    "llm.extra": "other projections of the language model: per-layer inputs, low-rank side paths",
    "llm.norm": "norms of the language model, those of queries and keys too",
    "llm.head": "output head",
    "other": "by exact name only: separators, positions, routers, bare gates, audio, picture generation",
}
"""Every group there can be, in the order of tables, and what it holds; a projection's bias is with it."""

_CONNECTS = re.compile(
    r"merger|project|connector|aligner|adapter|resampler|perceiver|qformer|query_tokens|neck|_proj$"
    r"|(vision|visual|image|patch)(es)?_embed|embed_(vision|patches|image)"
)
_MERGER = re.compile(r"merger|project|connector|aligner|adapter|resampler")
_APART = re.compile(r"audio|speech|generation|action|vq")
_EXTRA = re.compile(r"^(per_layer_|altup|project_(in|out)$)")
_HEAD = re.compile(r"^(cls|lm_head|predictions)$")


@dataclass(frozen=True)
class Anatomy:
    """Which parameter is what, and where the layers are.

    Attributes:
        groups: group to names of ``model.named_parameters()``, in model order; no group is empty.
        numel: name to number of elements (of the whole tensor where it is sharded), in model order.
        decoder_layers: paths of the language model's layers, by depth: units of sharding and of activation
            checkpointing. An encoder's layers come before its decoder's; a list of layers beside the main one
            (the cross-attention layers of Idefics) has the depths at which it is woven in.
        vision_blocks: paths of the vision tower's blocks, in model order.
        depth: path of a decoder layer to its depth, from 0.
    """

    groups: dict[str, list[str]]
    numel: dict[str, int]
    decoder_layers: list[str]
    vision_blocks: list[str]
    depth: dict[str, int]
    _group_of: dict[str, str] = field(repr=False)

    @classmethod
    def of(cls, model: nn.Module) -> Anatomy:
        """Read a model's tree. Tensors are never touched, so that a model on the meta device will do.

        Args:
            model: any ``AutoModelForImageTextToText``, or its inner model without the head.

        Raises:
            UserError: the model has no token embeddings, or a parameter belongs to no part.
        """
        reading = _Reading(model)
        group_of = {name: reading.group(name) for name, _ in model.named_parameters()}
        if unclaimed := [name for name, group in group_of.items() if group is None]:
            more = f" and {len(unclaimed) - 5} more" if len(unclaimed) > 5 else ""
            raise UserError(
                f"model.path: every parameter must belong to a known part; in {type(model).__name__} no rule "
                f"claims {', '.join(unclaimed[:5])}{more}. Please report the model: the rules are in "
                "lmmcl/structure/anatomy.py and lmmcl/structure/decoder_layer.py."
            )
        claimed = {name: group for name, group in group_of.items() if group is not None}
        groups = {group: [name for name, its in claimed.items() if its == group] for group in GROUPS}
        layers = reading.marks.layers
        return cls(
            groups={group: names for group, names in groups.items() if names},
            numel={name: parameter.numel() for name, parameter in model.named_parameters()},
            decoder_layers=sorted(layers, key=lambda path: layers[path]),
            vision_blocks=reading.vision_blocks(),
            depth=layers,
            _group_of=claimed,
        )

    @property
    def vision(self) -> list[str]:
        """Names of the vision tower's parameters."""
        return self.groups.get("vision", [])

    @property
    def projector(self) -> list[str]:
        """Names of the projector's parameters."""
        return self.groups.get("projector", [])

    def group_of(self, name: str) -> str:
        """The one group of a parameter."""
        return self._group_of[name]

    def layer_of(self, name: str) -> int | None:
        """Depth of the decoder layer a parameter lies in, from 0; None outside the decoder layers."""
        return next((self.depth[prefix] for prefix in prefixes(name) if prefix in self.depth), None)


class _Reading:
    """One pass over one model: first the landmarks, then every parameter by the nearest of them."""

    def __init__(self, model: nn.Module) -> None:
        self.marks = Landmarks(model, _CONNECTS)
        self.modules = self.marks.modules
        self.parameters = dict(model.named_parameters())
        self.words = max(self.modules[self.marks.embed].parameters(), key=nn.Parameter.numel)
        head = None if self.marks.head is None else self.modules[self.marks.head]
        self.head_weight = getattr(head, "weight", None)
        beside = [name for name in self.parameters if self.marks.root_of(name) not in self.marks.vision]
        self.projected_outside = any(self.group(name) == "projector" for name in beside)

    def group(self, name: str) -> str | None:
        """The group of a parameter, None where no rule claims it."""
        marks = self.marks
        if inside(name, marks.embed):
            tied = self.parameters[name] is self.head_weight
            return "llm.norm" if self._normalises(name) else "llm.embed+head" if tied else "llm.embed"
        if marks.head is not None and inside(name, marks.head):
            return "llm.head"
        if (layer := marks.layer_of(name)) is not None:
            return role_in_layer(self.modules[layer], name[len(layer) + 1 :])
        root = marks.root_of(name)
        if root in marks.vision:
            return "projector" if self._merges(name) else "vision"
        return "other" if root in marks.apart else self._beside(name, in_language=root in marks.language)

    def vision_blocks(self) -> list[str]:
        """The tower's blocks, without those of a projector that stands inside it."""
        blocks = (path for root in self.marks.vision for path in self.marks.blocks(root))
        return [path for path in blocks if not self._merges(path)]

    def _beside(self, name: str, in_language: bool) -> str | None:
        """What stands beside the towers and, in the language model, beside the layers."""
        parts = name.split(".")
        extra = any(_EXTRA.match(part) for part in parts)
        if any(_APART.search(part) for part in parts):
            return "other"
        if any(_CONNECTS.search(part) for part in parts) and not extra:
            return "projector"
        owner = self.modules[name.rpartition(".")[0]]
        if in_language and self._normalises(name):
            return "llm.norm"
        if in_language and isinstance(owner, nn.Embedding):
            of_words = owner.num_embeddings == len(self.words) or "embed_tokens" in name
            return "llm.embed" if of_words else "other"
        if in_language and extra:
            return "llm.extra"
        if any(_HEAD.match(part) for part in parts):
            return "llm.norm" if self._normalises(name) else "llm.head"
        return None if parts[-1] in {"weight", "bias"} else "other"

    def _normalises(self, name: str) -> bool:
        path, _, leaf = name.rpartition(".")
        return is_norm(self.modules[path], path.rpartition(".")[2] if leaf in {"weight", "bias"} else leaf)

    def _merges(self, name: str) -> bool:
        """Whether a part inside the tower is the projector: named so, and the model has none outside."""
        root = self.marks.root_of(name)
        if root is None or root not in self.marks.vision or self.projected_outside:
            return False
        return bool(_MERGER.search(name[len(root) + 1 :].split(".")[0]))
