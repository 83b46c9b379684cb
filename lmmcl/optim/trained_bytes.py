"""Bytes that a trained parameter takes, by the settings of the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lmmcl.optim.eight_bit import BLOCK

Rounding = Literal["stochastic", "kahan"]

OPTIMIZERS = ("adamw", "adamw_8bit", "adamw_offload")


def rounding_of(settings: Mapping[str, Any]) -> Rounding | None:
    """How updates of bf16 tensors are rounded; None: what trains is held in fp32."""
    if settings.get("train_dtype", "fp32") == "fp32":
        return None
    return settings.get("rounding") or "kahan"


@dataclass(frozen=True)
class TrainedBytes:
    """Bytes of one trained parameter, averaged over large matrices.

    Attributes:
        weight: the tensor that trains, and each copy that a callback keeps of it.
        gradient: its gradient.
        optimizer: what the optimizer keeps of it on the device.
        host: what the optimizer keeps of it in the host's memory.
    """

    weight: int = 4
    gradient: int = 4
    optimizer: float = 8
    host: float = 0

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "TrainedBytes":
        """Of the arguments of `lmmcl.model.ContinualLMM`."""
        rounding, kind = rounding_of(settings), settings.get("optimizer", "adamw")
        held = 4 if rounding is None else 2
        moments = 2 * (1 + 4 / BLOCK) if kind == "adamw_8bit" else 8.0
        kept = 2.0 if rounding == "kahan" else 0.0
        if kind == "adamw_offload":
            return cls(held, held, kept, moments)
        return cls(held, held, moments + kept)

    @property
    def saved(self) -> float:
        """Bytes of the optimizer in a checkpoint."""
        return self.optimizer + self.host

    @property
    def state(self) -> float:
        """Gradient and optimizer on the device."""
        return self.gradient + self.optimizer


PLAIN = TrainedBytes()
"""fp32 and AdamW."""
