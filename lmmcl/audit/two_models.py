"""BASE and TUNED: loaded side by side from their files, compared tensor by tensor, and what moved between them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText
from transformers.utils import logging

from lmmcl.audit.adapter import fold, is_adapter
from lmmcl.audit.same_model import refuse_other_config, refuse_other_tensors
from lmmcl.audit.voice import Voice
from lmmcl.errors import UserError
from lmmcl.loading import Checkpoint
from lmmcl.structure.anatomy import GROUPS, Anatomy
from lmmcl.weights import checksums, fingerprint

BUFFERS = "buffers"
"""Group of what is saved with a model and is no parameter (running means)."""


@dataclass(frozen=True)
class GroupChange:
    """How far a group of parameters moved.

    Args:
        group: of `lmmcl.structure.anatomy.GROUPS`, or ``buffers``.
        tensors: in the group.
        changed: those of them that differ.
        norm: ‖θ_base‖ (Frobenius) over all of the group.
        moved: ‖θ_tuned − θ_base‖ over all of the group.
    """

    group: str
    tensors: int
    changed: int
    norm: float
    moved: float

    @property
    def distance(self) -> float:
        """‖θ_tuned − θ_base‖ / ‖θ_base‖; infinite where the base is all zeros and the group moved."""
        return self.moved / self.norm if self.norm else (math.inf if self.moved else 0.0)


@dataclass
class TwoModels:
    """The tuned model, what moved since the base, and how each of the two is spoken to.

    Args:
        model: the tuned model; its tensors are filled with other values later.
        base: what moved, before, in the tuned model's dtypes.
        tuned: what moved, after.
        group_of: group of every tensor that moved.
        groups: every group of the model, in the order of tables.
        base_key: fingerprint of all weights before.
        tuned_key: after.
        voices: ``base`` and ``tuned``.
        notes: what a reader should know about the two.
    """

    model: Any
    base: dict[str, Tensor]
    tuned: dict[str, Tensor]
    group_of: dict[str, str]
    groups: list[GroupChange]
    base_key: str
    tuned_key: str
    voices: Mapping[str, Voice]
    notes: list[str] = field(default_factory=list)

    @property
    def moved(self) -> list[str]:
        """Groups that moved, in the order of tables."""
        return [change.group for change in self.groups if change.changed]


def load_two(base: Checkpoint, tuned: Checkpoint, attention: str | None = None) -> TwoModels:
    """Loads both models by transformers, so that names in files do not matter, and compares them.

    Weights that need no conversion stay in their files: the pages are mapped, and the system drops them again where
    memory is short. What it holds for itself are folded tensors (an adapter), and, where the two dtypes
    differ, those tensors of the base that moved.

    Args:
        base: the model before tuning.
        tuned: a model of the same structure, or a peft adapter.
        attention: transformers' name of an attention kernel.

    Raises:
        UserError: one of them cannot be loaded, or they are not the same model with other values.
    """
    adapter = is_adapter(tuned.location, tuned.revision)
    if is_adapter(base.location, base.revision):
        raise UserError(f"BASE: {base.path} is a peft adapter; give the whole model that it was made on.")
    configs = (base.config(), (base if adapter else tuned).config())
    for name, config in zip(("BASE", "TUNED"), configs, strict=True):
        if getattr(config, "quantization_config", None) is not None:
            raise UserError(
                f"{name}: a model must not be quantized, its values cannot be mixed; give the model before "
                "quantization."
            )
    if not adapter:
        refuse_other_config(*configs)
    before, ignored = _load("BASE", base, attention)
    after, unused = _load("TUNED", base if adapter else tuned, attention)
    if extra := sorted(unused - ignored):
        raise UserError(
            f"TUNED: {tuned.path} holds {len(extra)} tensors that {type(after).__name__} does not use and BASE does "
            f"not hold, for example {extra[0]}; give a model of the same kind, or the adapter itself."
        )
    notes = []
    if gone := sorted(ignored - unused):
        notes.append(
            f"{len(gone)} tensors of BASE's files, which the model does not use, are not in TUNED's: {gone[0]}"
        )
    if adapter:
        after = fold(after, tuned.location, tuned.revision)
    voices = {"base": Voice.of(base, before), "tuned": Voice.of(tuned, after, fallback=base)}
    if parts := voices["base"].differs_from(voices["tuned"]):
        notes.append(
            f"{' and '.join(parts)} of the two differ: each model is asked in its own way, every mixture in TUNED's"
        )
    found = _compare(before, after)
    return TwoModels(after, *found, voices, notes)


def _load(which: str, checkpoint: Checkpoint, attention: str | None) -> tuple[nn.Module, set[str]]:
    """A model in its own dtype, and the keys of its files that it does not use.

    Raises:
        UserError: it cannot be loaded, or its files lack a tensor, which transformers would draw at random.
    """
    options: dict[str, Any] = {"attn_implementation": attention} if attention else {}
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what it reports of missing tensors is said below, in one line
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            checkpoint.location,
            dtype="auto",
            use_safetensors=True,
            revision=checkpoint.revision or "main",
            trust_remote_code=checkpoint.trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    except (OSError, ValueError, ImportError) as error:
        raise UserError(
            f"{which}: could not load {checkpoint.path}: {str(error).strip().splitlines()[0]}"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    model, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise UserError(
            f"{which}: the files of {checkpoint.path} must hold every tensor of the model, {len(missing)} are not "
            f"there, for example {missing[0]}; save the whole model, or give the adapter's folder."
        )
    if wrong := sorted(map(str, info["mismatched_keys"])):
        raise UserError(
            f"{which}: {checkpoint.path} must hold tensors of the shapes that its config.json says; {len(wrong)} have "
            f"others, for example {wrong[0]}."
        )
    assert isinstance(model, nn.Module)
    return model.requires_grad_(False), set(info["unexpected_keys"])


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters, tied ones once, and the buffers that are saved with them."""
    saved = model.state_dict().keys()
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in saved}
    return {**{name: p.data for name, p in model.named_parameters()}, **buffers}


@torch.no_grad()
def _compare(
    before: nn.Module, after: nn.Module
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, str], list[GroupChange], str, str]:
    """What moved and how far, one tensor at a time: see `TwoModels`."""
    base, tuned = tensors_of(before), tensors_of(after)
    refuse_other_tensors(base, tuned)
    anatomy = Anatomy.of(after)
    parameters = set(anatomy.numel)
    members: dict[str, list[str]] = {group: [] for group in (*GROUPS, BUFFERS)}
    for name in tuned:
        members[anatomy.group_of(name) if name in parameters else BUFFERS].append(name)
    was: dict[str, Tensor] = {}
    now: dict[str, Tensor] = {}
    sums: tuple[dict[str, str], dict[str, str]] = ({}, {})
    groups = []
    for group, names in members.items():
        norm = moved = torch.zeros((), dtype=torch.float64)
        changed = 0
        for name in names:
            value, start = tuned[name], base.pop(name).to(tuned[name].dtype)
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise UserError(
                    f"TUNED: {name} holds values that are not finite; there is nothing to put them back to."
                )
            for kept, tensor in zip(sums, (start, value), strict=True):
                kept |= checksums({name: tensor})
            norm = norm + start.double().square().sum()
            if torch.equal(start, value):
                continue
            changed += 1
            moved = moved + (value.double() - start.double()).square().sum()
            was[name], now[name] = start, value
        if names:
            groups.append(
                GroupChange(group, len(names), changed, math.sqrt(float(norm)), math.sqrt(float(moved)))
            )
    group_of = {name: group for group, names in members.items() for name in names if name in now}
    return was, now, group_of, groups, fingerprint(sums[0]), fingerprint(sums[1])
