"""What a stage trains: a named, composable choice of a model's parameters, and their learning rates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from lmmcl.errors import UserError
from lmmcl.structure.anatomy import GROUPS, Anatomy
from lmmcl.structure.recipe_spec import Part, nearest, read_parts, read_rates

__all__ = ["RECIPES", "VISION_LR_SHARE", "Recipe"]

VISION_LR_SHARE = 2e-6 / 5e-6
"""Learning rate of the vision tower over the base rate (arXiv 2510.08564: 2e-6 beside 5e-6)."""

_SA = ("llm.attn.q", "llm.attn.k", "llm.attn.v", "llm.attn.o")
_GATE_UP = ("llm.mlp.gate", "llm.mlp.up")

RECIPES: dict[str, tuple[str, ...]] = {
    "full": ("vision", "projector", "llm"),
    "vision": ("vision",),
    "projector": ("projector",),
    "vision_projector": ("vision", "projector"),
    "llm": ("llm",),
    "mlp": (*_GATE_UP, "llm.mlp.down"),
    "mlp_gate_up": _GATE_UP,
    "mlp_down": ("llm.mlp.down",),
    "sa_proj": _SA,
    "sa_qkv": _SA[:3],
    "sa_vo": _SA[2:],
    "sa_proj_mlp_gate_up": (*_SA, *_GATE_UP),
}
"""Recipe to the groups it needs; ``llm`` stands for every group of the language model, ``other`` is in none.

Two more go by depth: ``last_4`` trains all of the last four decoder layers, norms included, and
``first_20_frozen`` all of the decoder layers after the first twenty; in both, embeddings, final norm and head
stay frozen.
"""

_FUSED = {
    "llm.attn.q": ("llm.attn.qkv",),
    "llm.attn.k": ("llm.attn.kv", "llm.attn.qkv"),
    "llm.attn.v": ("llm.attn.kv", "llm.attn.qkv"),
    "llm.mlp.gate": ("llm.mlp.gate_up",),
    "llm.mlp.up": ("llm.mlp.gate_up",),
}
"""Where a projection lies when it has no tensor of its own."""

# An encoder-free model reads pixels without a tower, and a plain MLP has no gate: they train what there is.
_OPTIONAL = {("full", "vision"), ("full", "projector"), ("mlp", "llm.mlp.gate")}

_DEPTH = re.compile(r"last_(?P<last>\d+)|first_(?P<frozen>\d+)_frozen")


@dataclass(frozen=True)
class Recipe:
    """A choice of parameters as a user writes it; with a model's anatomy it becomes names.

    It is written as a name, a mapping, or a list of these (their union)::

        sa_proj
        [sa_proj, mlp_gate_up]
        last_4
        {train: [llm.mlp.gate, llm.mlp.up], layers: "12:"}
        [sa_proj, {train: vision, lr: {vision: 1e-6}}, model.image_newline]

    A name is a recipe, a group or its beginning (``llm.attn``), a parameter, or a pattern (``*``, ``?``,
    ``[abc]``) of groups or of parameters. ``layers`` keeps the parameters of these decoder layers: a slice as
    in Python, a number or a list of numbers. ``lr`` gives groups their own rate. Parameters of the group
    ``other`` are trained by their exact name only: no pattern is meant to reach a router or a position table.

    Attributes:
        spec: what the user wrote.
        key: the YAML key it stands under, for errors.
    """

    spec: Any
    key: str
    _parts: tuple[Part, ...] = field(repr=False)
    _rates: Mapping[str, float] = field(repr=False)

    @classmethod
    def parse(
        cls, spec: str | Sequence[Any] | Mapping[str, Any] | Recipe, key: str = "model.recipe"
    ) -> Recipe:
        """Read a recipe.

        Args:
            spec: name, mapping or list, as above; a recipe is returned as it is.
            key: the YAML key it stands under, for errors.

        Raises:
            UserError: it is of another form, or a rate is not a positive number.
        """
        if isinstance(spec, Recipe):
            return spec
        return cls(spec, key, tuple(read_parts(spec, key)), read_rates(spec, key))

    @property
    def name(self) -> str:
        """A short name for tables and logs."""
        return " + ".join(part.title for part in self._parts)

    def resolve(self, anatomy: Anatomy) -> dict[str, str]:
        """Find the parameters that train.

        Args:
            anatomy: the model's anatomy.

        Returns:
            Parameter name to its group, in model order.

        Raises:
            UserError: the model lacks a group that the recipe needs (it says which), a name or pattern
                matches nothing (it offers the nearest), a projection shares its tensor with one that must
                stay frozen, or a learning rate is for a group that does not train.
        """
        chosen: set[str] = set()
        for part in self._parts:
            for entry in part.train:
                chosen |= self._of_layers(part, entry, self._names(entry, anatomy), anatomy)
        trained = {name: anatomy.group_of(name) for name in anatomy.numel if name in chosen}
        groups = set(trained.values())
        for pattern in self._rates:
            if not any(_covers(pattern, group) for group in groups):
                raise UserError(
                    f"{self.key}.lr: a rate must be for a group that trains, and {pattern!r} is none. "
                    f"This recipe trains {', '.join(sorted(groups))}.{nearest(pattern, groups)}"
                )
        return trained

    def lr_for(self, group: str, base_lr: float) -> float:
        """Rate of a group: the recipe's own, else the base, of which the vision tower gets two fifths.

        Adapters of a group (``llm.mlp.up.lora``) have the group's.
        """
        own = next((rate for pattern, rate in self._rates.items() if _covers(pattern, group)), None)
        if own is not None:
            return own
        return base_lr * VISION_LR_SHARE if _covers("vision", group) else base_lr

    def _of_layers(self, part: Part, entry: str, names: set[str], anatomy: Anatomy) -> set[str]:
        if part.layers is None:
            return names
        depths = part.depths(_count(anatomy), self.key)
        kept = {name for name in names if anatomy.layer_of(name) in depths}
        if not kept:
            raise UserError(
                f"{self.key}: layers must leave something of every name, and {entry!r} has no parameter in "
                f"decoder layers {part.layers!r} of {_count(anatomy)}. Put it beside the mapping, in a list."
            )
        return kept

    def _names(self, entry: str, anatomy: Anatomy) -> set[str]:
        """Parameters that one name stands for."""
        if depth := _DEPTH.fullmatch(entry):
            return self._by_depth(depth, anatomy)
        if entry in RECIPES:
            return self._by_recipe(entry, anatomy)
        if entry in anatomy.numel:
            return {entry}
        groups = [group for group in anatomy.groups if group != "other" and _covers(entry, group)]
        if groups:
            return {name for group in groups for name in anatomy.groups[group]}
        others = set(anatomy.groups.get("other", []))
        names = {name for name in anatomy.numel if fnmatchcase(name, entry)}
        if names - others:
            return names - others
        if names or entry == "other":
            raise UserError(
                f"{self.key}: parameters of the group 'other' are trained by exact name only, {entry!r} is "
                f"none. They are: {_some(sorted(names or others))}."
            )
        raise UserError(self._unknown(entry, anatomy))

    def _unknown(self, entry: str, anatomy: Anatomy) -> str:
        if entry in GROUPS:
            home = next((group for group in _FUSED.get(entry, ()) if group in anatomy.groups), None)
            way_out = f" Here it lies in {home}." if home else nearest(entry, anatomy.groups)
            return (
                f"{self.key}: a group to train must be in the model, which has no {entry} ({GROUPS[entry]}). "
                f"It has {', '.join(anatomy.groups)}.{way_out}"
            )
        way_out = nearest(entry, [*RECIPES, *anatomy.groups, *anatomy.numel])
        return (
            f"{self.key}: {entry!r} must match a recipe, a group or a parameter, and matches none."
            f"{way_out or f' The recipes are {_all_recipes()}.'}"
        )

    def _by_depth(self, depth: re.Match[str], anatomy: Anatomy) -> set[str]:
        count = _count(anatomy)
        given = int(depth["last"] or depth["frozen"])
        most = count if depth["last"] else count - 1
        if not 1 <= given <= most:
            raise UserError(
                f"{self.key}: {depth[0]} must name 1 to {most} of {count} decoder layers, got {given}."
            )
        first = count - given if depth["last"] else given
        layers = {name: anatomy.layer_of(name) for name in anatomy.numel if anatomy.group_of(name) != "other"}
        return {name for name, layer in layers.items() if layer is not None and layer >= first}

    def _by_recipe(self, recipe: str, anatomy: Anatomy) -> set[str]:
        """Parameters of a recipe's groups; a projection in a shared tensor stands for all of that tensor."""
        groups: set[str] = set()
        for need in RECIPES[recipe]:
            if need == "llm":
                groups |= {group for group in anatomy.groups if group.startswith("llm.")}
                continue
            homes = {group for group in (need, *_FUSED.get(need, ())) if group in anatomy.groups}
            if not homes and (recipe, need) not in _OPTIONAL:
                raise UserError(
                    f"{self.key}: {recipe} needs the group {need} ({GROUPS[need]}), which this model lacks. "
                    f"It has {', '.join(anatomy.groups)}."
                )
            for fused in homes - {need}:
                sharing = [group for group, places in _FUSED.items() if fused in places]
                if frozen := [group for group in sharing if group not in RECIPES[recipe]]:
                    raise UserError(
                        f"{self.key}: {recipe} keeps {' and '.join(frozen)} frozen, but in this model "
                        f"{', '.join(sharing)} share one tensor ({fused}), and a tensor trains as a whole or "
                        "not at all. Choose sa_proj, or name the groups."
                    )
            groups |= homes
        return {name for group in groups for name in anatomy.groups[group]}


def _covers(pattern: str, group: str) -> bool:
    """Whether a name in a recipe stands for a group: it is the group, its beginning, or a pattern it fits."""
    return pattern == group or group.startswith(f"{pattern}.") or fnmatchcase(group, pattern)


def _count(anatomy: Anatomy) -> int:
    return 1 + max(anatomy.depth.values(), default=-1)


def _all_recipes() -> str:
    return ", ".join([*RECIPES, "last_N", "first_N_frozen"])


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more if names else "none in this model"
