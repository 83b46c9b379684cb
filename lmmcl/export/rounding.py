"""What the dtype of an export leaves of the change that training made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from lmmcl.adapters.fold import PlainReader


@dataclass(frozen=True)
class Rounding:
    """What a dtype left of the change that training made, over all trained values.

    Args:
        dtype: of the export.
        changed: values that training changed in fp32.
        undone: those of them that are the base model's again after rounding.
        lost: norm of what rounding took, over the norm of the change, from 0.
        frozen_bits: in which the run held frozen weights; the export has the checkpoint's own.
    """

    dtype: str
    changed: int
    undone: int
    lost: float
    frozen_bits: int | None = None

    @override
    def __str__(self) -> str:
        if not self.frozen_bits:
            return self._told()
        return (
            f"{self._told()} The run held frozen weights in {self.frozen_bits} bits; what it learned is added to the "
            "checkpoint's own, and answers may differ from those of the run."
        )

    def _told(self) -> str:
        if not self.changed:
            return f"{self.dtype}: the stage trained nothing, so rounding took nothing."
        share = 100 * self.undone / self.changed
        return (
            f"{self.dtype}: rounding took {100 * self.lost:.2g} % of the change (by norm); {share:.2g} % of "
            f"{self.changed:,} trained values are the base model's again"
            f"{'. --dtype float32 keeps all of it.' if self.lost > 0 else '.'}"
        )


@torch.no_grad()
def fill_(model: Any, reader: PlainReader, target: torch.dtype, frozen_bits: int | None = None) -> Rounding:
    """Brings the whole model to a dtype, and the stage's values into it, rounded once from their masters.

    Args:
        model: the base model.
        reader: of the stage's values.
        target: dtype of all of it.
        frozen_bits: in which the run held frozen weights.
    """
    parameters = dict(model.named_parameters())
    base = {name: parameters[name].detach().clone() for name in reader.keys()}
    model.to(target)
    changed = undone = 0
    lost = change = torch.zeros((), dtype=torch.float64)
    for name in sorted(reader.keys()):
        master, before = reader.read(name).float(), base.pop(name)
        rounded = master.to(target)
        parameters[name].copy_(rounded)
        moved = master != before.float()
        changed += int(moved.sum())
        undone += int((moved & (rounded == before.to(target))).sum())
        lost = lost + _square(rounded.float() - master)
        change = change + _square(master - before.float())
    share = float((lost / change).sqrt()) if changed else 0.0
    return Rounding(str(target).removeprefix("torch."), changed, undone, share, frozen_bits)


def _square(value: Tensor) -> Tensor:
    return value.double().square().sum()
