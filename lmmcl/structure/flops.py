"""Floating point operations of a model's forwards and backwards, from the shapes of what they read.

A product with a weight of n elements costs 2n operations per token forward, 2n backward for its weight's gradient if it
trains, and 2n for its input's gradient if anything before it trains: 6n in all where everything trains (Kaplan et al.
2020, arXiv 2001.08361, section 2.1), less where something is frozen. The products of attention come on top, counted
over all pairs of positions as `torch.utils.flop_counter` counts them, causal or not; of packed samples over the pairs
of each, as of samples apart, also where a kernel computes others and masks them. Norms, activations and the optimizer
are left out. What decides is what is computed: padding counts, and so does a layer that is recomputed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import Parameter

from lmmcl.structure.anatomy import Anatomy

_ORDER_IN_LAYER = {
    "attn.o": 1,
    "cross_attn.o": 3,
    "cross_attn": 2,
    "attn": 0,
    "mixer": 0,
    "mlp.gate": 4,
    "mlp.up": 4,
    "mlp.gate_up": 4,
    "mlp.down": 5,
}
_VISION, _PROJECTOR, _LANGUAGE, _HEAD = range(4)
_BESIDE = 1 << 30
"""In the place of a depth: behind all layers."""

Place = tuple[int, int, int]


@dataclass
class _Sums:
    forward: float = 0.0
    backward: float = 0.0
    again: float = 0.0


class Flops:
    """The operations of one model with one set of trained parameters.

    Pictures are counted in full: windows of a tower's attention, and tiles that are padding, cost as the rest. Of an
    expert layer the share that a token uses counts.

    Args:
        model: an image-text-to-text model of transformers.
        anatomy: of it.
        parameters: by name.
        trained: names of those with a gradient; none: no backward.
        recomputes: whose forward the backward pass computes again (activation checkpointing): ``vision``, ``llm``.
    """

    def __init__(
        self,
        model: nn.Module,
        anatomy: Anatomy,
        parameters: Mapping[str, Parameter],
        trained: Collection[str] = (),
        recomputes: Collection[str] = (),
    ) -> None:
        self._sums = {part: _Sums() for part in range(4)}
        config: Any = model.config
        text = config.get_text_config()
        group = {name: _group(anatomy, name) for name in parameters}
        places = {name: _place(anatomy, name, group[name]) for name in parameters}
        first = min((places[name] for name in trained), default=(9, 0, 0))
        share = _active_experts(text)
        owners = dict(model.named_modules())
        ends: dict[tuple[int, int], tuple[Place, float]] = {}
        for name, parameter in parameters.items():
            path, _, leaf = name.rpartition(".")
            if not _multiplies(owners.get(path), leaf, parameter, group[name]):
                continue
            n = anatomy.numel.get(name, parameter.numel()) * (share if ".experts." in f"{name}." else 1.0)
            sums = self._sums[places[name][0]]
            sums.forward += 2 * n
            sums.backward += 2 * n * ((name in trained) + (first < places[name]))
            place = places[name]
            if place[0] in (_VISION, _LANGUAGE) and 0 <= place[1] < _BESIDE and place[:2] >= first[:2]:
                sums.again += 2 * n
                if place[:2] not in ends or place >= ends[place[:2]][0]:
                    ends[place[:2]] = (place, 2 * n)
        for place, forward in ends.values():
            self._sums[place[0]].again -= forward  # what ends a layer is not needed by its backward
        head = model.get_output_embeddings()  # type: ignore[operator]  # transformers' models are untyped
        weight = dict(head.named_parameters(recurse=False)).get("weight")
        self._head_width = 0 if weight is None else weight.shape[1]
        head_trains = any(parameters[name] is weight for name in trained)
        self._head_backward = (head_trains + (first < (_HEAD, 0, 0))) if trained else 0
        heads = getattr(text, "num_attention_heads", 0)
        width = heads * (getattr(text, "head_dim", None) or getattr(text, "hidden_size", 0) // max(heads, 1))
        attends = {anatomy.layer_of(n): places[n] for n, its in group.items() if its.startswith("llm.attn.")}
        reached = sum(first <= (_LANGUAGE, depth or 0, 0) for depth in attends)
        self._attention = _Sums(4.0 * width * len(attends), 8.0 * width * reached)
        embedding = patch_embedding(anatomy, parameters)
        vision_width = 0 if embedding is None else int(parameters[embedding].shape[0])
        blocks = len(anatomy.vision_blocks)
        trains_vision = first < (_PROJECTOR, 0, 0)
        self._vision_attention = _Sums(
            4.0 * vision_width * blocks, 8.0 * vision_width * blocks if trains_vision else 0.0
        )
        projections = [parameters[n] for n in anatomy.projector if parameters[n].dim() == 2]
        merged = projections[0].shape[1] // vision_width if projections and vision_width else 1
        self._merged = max(1, merged)
        if "llm" in recomputes and trained:
            self._sums[_LANGUAGE].backward += self._sums[_LANGUAGE].again
            self._attention.backward += 4.0 * width * reached
        if "vision" in recomputes and trains_vision:
            self._sums[_VISION].backward += self._sums[_VISION].again
            self._vision_attention.backward += self._vision_attention.forward

    def count_positions(self, samples: int, length: int, past: int, gradient: bool) -> int:
        """Operations of the language model without its head, and of its backward if there is to be a gradient.

        Args:
            samples: in the batch.
            length: positions of each, padding included.
            past: positions before them, in the cache.
            gradient: whether a backward follows.
        """
        positions = samples * length
        pairs = positions * (past + length)
        return self.count_tokens(positions, gradient) + pairs * self.of_a_pair(gradient)

    def count_tokens(self, positions: int, gradient: bool) -> int:
        """Those of `count_positions` without attention."""
        return _count(self._sums[_LANGUAGE], positions, gradient)

    def of_a_pair(self, gradient: bool) -> int:
        """Those of attention for one position that attends to one."""
        return _count(self._attention, 1, gradient)

    def count_patches(self, patches: int, of_one: int, gradient: bool) -> int:
        """Operations of the vision tower and the projector.

        Args:
            patches: of all pictures.
            of_one: of one picture or tile: these attend to each other.
            gradient: whether a backward follows.
        """
        return (
            _count(self._sums[_VISION], patches, gradient)
            + _count(self._vision_attention, patches * of_one, gradient)
            + _count(self._sums[_PROJECTOR], patches // self._merged, gradient)
        )

    def count_head(self, logits: int, gradient: bool) -> int:
        """Operations of the head for so many logits, tokens times words."""
        return 2 * logits * self._head_width * (1 + (self._head_backward if gradient else 0))


def _count(sums: _Sums, number: int, gradient: bool) -> int:
    return round(number * (sums.forward + gradient * sums.backward))


def _group(anatomy: Anatomy, name: str) -> str:
    """A parameter's group; that of the weight it stands beside for one that an adapter added."""
    if name in anatomy.numel:
        return anatomy.group_of(name)
    parts = name.split(".")
    beside = (".".join([*parts[:i], "weight"]) for i in range(len(parts) - 1, 0, -1))
    known = next((other for other in beside if other in anatomy.numel), None)
    if known is not None:
        return anatomy.group_of(known)
    return "other" if anatomy.layer_of(name) is None else "llm.mlp.gate"


def _place(anatomy: Anatomy, name: str, group: str) -> Place:
    """When a parameter is used in a forward: a gradient has to reach all that is used after one that trains."""
    if group == "vision":
        block = next((i for i, path in enumerate(anatomy.vision_blocks) if name.startswith(f"{path}.")), -1)
        return _VISION, block, 0
    if group == "projector":
        return _PROJECTOR, 0, 0
    if group == "llm.head":
        return _HEAD, 0, 0
    depth = anatomy.layer_of(name)
    if depth is None:
        return (_LANGUAGE, -1, 0) if group != "llm.norm" else (_LANGUAGE, _BESIDE, 0)
    role = group.removeprefix("llm.")
    order = next((at for start, at in _ORDER_IN_LAYER.items() if role == start), None)
    if order is None:
        order = _ORDER_IN_LAYER.get(role.partition(".")[0], -1)
    return _LANGUAGE, depth, order


def _multiplies(owner: nn.Module | None, leaf: str, parameter: Tensor, group: str) -> bool:
    """Whether every token is multiplied with it: no vector, no table of embeddings, not the head."""
    if parameter.dim() < 2 or isinstance(owner, nn.Embedding) or group in ("llm.head", "other"):
        return False
    return group not in ("llm.embed", "llm.embed+head") and not ("embed" in leaf or "position" in leaf)


def _active_experts(text: Any) -> float:
    """The share of a layer's experts that a token uses; 1 without experts."""
    total = next((n for key in ("num_experts", "num_local_experts") if (n := getattr(text, key, None))), None)
    used = getattr(text, "num_experts_per_tok", None)
    return used / total if total and used else 1.0


def patch_embedding(anatomy: Anatomy, parameters: Mapping[str, Parameter]) -> str | None:
    """Name of the weight that every patch meets first: a convolution, or else the tower's first matrix."""
    names = [name for name in anatomy.vision if parameters[name].dim() >= 2]
    return next((name for name in names if parameters[name].dim() >= 4), next(iter(names), None))
