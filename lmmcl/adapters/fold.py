"""How adapters that a stage holds become plain weights: W + Σ s B A, summed in fp32."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from lmmcl.errors import UserError
from lmmcl.run.checkpoint import PieceReader


@dataclass(frozen=True)
class Fold:
    """One product of two matrices that a stage adds to a matrix of the base model: into ← into + scale · up @ down.

    Args:
        into: name of the base model's parameter, (out, in).
        up: name of B, (out, rank).
        down: name of A, (rank, in).
        scale: s, the factor of the product.
    """

    into: str
    up: str
    down: str
    scale: float


@torch.no_grad()
def folded(base: Tensor, folds: Iterable[Fold], read: Callable[[str], Tensor]) -> Tensor:
    """W + Σ s B A in fp32, a new tensor.

    Products are of whole matrices on every process, so that a sum never depends on how a model is sharded.

    Args:
        base: W, (out, in), whole, of any dtype.
        folds: in the order of their sum.
        read: gives a whole tensor by its name, on the device of the base.
    """
    total = base.float().clone()
    with torch.autocast(base.device.type, enabled=False):
        for fold in folds:
            total += fold.scale * (read(fold.up).float() @ read(fold.down).float())
    return total


def as_lineage(folds: Iterable[Fold], added: Iterable[str], not_plain: str | None) -> dict[str, Any]:
    """What a stage's lineage says of adapters; nothing where there are none.

    Args:
        folds: of the stage.
        added: names of all parameters that the base model does not have, whatever task they are for.
        not_plain: why no plain weights do what the stage does; None: the folds do.
    """
    told: dict[str, Any] = {"adapters": sorted(added), "folds": [asdict(fold) for fold in folds]}
    told["not_plain"] = not_plain
    return {key: value for key, value in told.items() if value}


def folds_of(lineage: Mapping[str, Any]) -> dict[str, list[Fold]]:
    """The folds of a stage, by the base model's parameter.

    Raises:
        UserError: the stage has adapters that no plain weights can stand for.
    """
    if reason := lineage.get("not_plain"):
        raise UserError(f"--stage: what this stage learned cannot be written as plain weights: {reason}")
    folds: dict[str, list[Fold]] = {}
    for entry in lineage.get("folds", []):
        folds.setdefault(entry["into"], []).append(Fold(**entry))
    return folds


class PlainReader:
    """The tensors of a stage as the base model names them, adapters folded in; read as a `PieceReader` is.

    Args:
        reader: of the stage's own tensors.
        lineage: of the stage.
        base: the base model's parameters, as they were before anything was folded into them.

    Raises:
        UserError: the stage has adapters that no plain weights can stand for.
    """

    def __init__(self, reader: PieceReader, lineage: Mapping[str, Any], base: Mapping[str, Tensor]) -> None:
        self.folds = folds_of(lineage)
        self._reader = reader
        self._adapters = set(lineage.get("adapters", []))
        self._base = {name: base[name].detach().clone() for name in self.folds if name in base}

    def keys(self) -> set[str]:
        """Names of all that differs from the base model, or may."""
        return (self._reader.keys() - self._adapters) | self.folds.keys()

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a whole tensor."""
        return tuple(self._base[key].shape) if key in self.folds else self._reader.shape(key)

    def read(self, key: str) -> Tensor:
        """A whole tensor; a folded one in fp32, on the device of the base model."""
        if key not in self.folds:
            return self._reader.read(key)
        base = self._base[key]
        return folded(base, self.folds[key], lambda name: self._reader.read(name).to(base.device))
