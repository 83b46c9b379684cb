"""A model between the base and the tuned one: how much of each group is put back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


def mixed(base: Tensor, tuned: Tensor, alpha: float) -> Tensor:
    """θ = θ_base + (1 − α)(θ_tuned − θ_base), summed in fp32, in the tuned tensor's dtype.

    α 0 is the tuned tensor and α 1 the base's, byte for byte, and a value that both share is kept as it is.

    Args:
        base: values before tuning.
        tuned: after it; of the same shape.
        alpha: in [0, 1]: how much is put back. Tensors of whole numbers (counters) are not mixed: they are the base's
            at α 1 and the tuned model's elsewhere.
    """
    if alpha == 0.0 or (alpha != 1.0 and not tuned.is_floating_point()):
        return tuned
    if alpha == 1.0:
        return base.to(tuned.dtype)
    start = base.float()
    return (start + (1.0 - alpha) * (tuned.float() - start)).to(tuned.dtype)


@dataclass(frozen=True)
class Candidate:
    """How much of each group that moved is put back to the base.

    Args:
        alphas: group to α in (0, 1]; groups that are not named stay as they were tuned.
        kind: ``tuned``, ``base``, ``alpha`` (all groups alike), ``group`` (one of them whole) or ``set`` (some whole).
    """

    alphas: tuple[tuple[str, float], ...]
    kind: str

    @classmethod
    def everywhere(cls, groups: Iterable[str], alpha: float) -> Candidate:
        """All groups by the same α; 0 is the tuned model and 1 the base."""
        if alpha == 0.0:
            return cls((), "tuned")
        return cls(tuple((group, alpha) for group in groups), "base" if alpha == 1.0 else "alpha")

    @classmethod
    def without(cls, groups: Iterable[str]) -> Candidate:
        """Some groups put back whole."""
        back = tuple((group, 1.0) for group in groups)
        return cls(back, "group" if len(back) == 1 else "set")

    @property
    def alpha(self) -> float:
        """α of ``tuned`` (0), ``alpha`` and ``base`` (1), which put all groups back alike."""
        return self.alphas[0][1] if self.alphas else 0.0

    @property
    def groups(self) -> list[str]:
        """What is put back, in part or whole."""
        return [group for group, _ in self.alphas]

    @property
    def title(self) -> str:
        """For a reader."""
        if self.kind in ("tuned", "base"):
            return self.kind
        if self.kind == "alpha":
            return f"α {self.alpha:g}"
        return f"{' + '.join(self.groups)} put back"

    @property
    def folder(self) -> str:
        """Name of the folder of its answers."""
        if self.kind in ("tuned", "base"):
            return self.kind
        if self.kind == "alpha":
            return f"alpha-{self.alpha:g}"
        if self.kind == "group":
            return f"back-{self.groups[0]}"
        name = hashlib.sha256("\n".join(sorted(self.groups)).encode()).hexdigest()[:8]
        return f"back-{len(self.groups)}-groups-{name}"

    def by_group(self) -> Mapping[str, float]:
        """Group to α."""
        return dict(self.alphas)

    def weights_key(self, base: str, tuned: str, moved: Iterable[str]) -> str:
        """A name of the weights it stands for, equal where the weights are equal by construction.

        Args:
            base: fingerprint of the base's weights.
            tuned: of the tuned model's.
            moved: all groups that moved.
        """
        alphas = {group: alpha for group, alpha in self.by_group().items() if group in set(moved)}
        if not alphas:
            return tuned
        if set(alphas) == set(moved) and set(alphas.values()) == {1.0}:
            return base
        told = "\n".join(f"{group} {alpha!r}" for group, alpha in sorted(alphas.items()))
        return hashlib.sha256(f"{base}\n{tuned}\n{told}".encode()).hexdigest()[:16]


@torch.no_grad()
def fill(
    targets: Mapping[str, Tensor],
    base: Mapping[str, Tensor],
    tuned: Mapping[str, Tensor],
    group_of: Mapping[str, str],
    candidate: Candidate,
) -> None:
    """Writes a candidate's values into a model, tensor by tensor.

    Args:
        targets: the model's tensors by name, wherever they are; only those that moved are touched.
        base: what moved, before.
        tuned: what moved, after.
        group_of: group of every name that moved.
        candidate: how much of which group is put back.
    """
    alphas = candidate.by_group()
    for name, after in tuned.items():
        target = targets[name]
        target.copy_(
            mixed(base[name].to(target.device), after.to(target.device), alphas.get(group_of[name], 0.0))
        )
