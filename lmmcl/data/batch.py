"""What the collator hands to the model: padded inputs, labels on answer tokens, and who the samples are."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor

IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """One micro-batch.

    Args:
        inputs: keyword arguments of the model's forward: ``input_ids`` (batch, length), ``attention_mask``
            (batch, length), ``pixel_values`` and whatever else the processor makes.
        labels: (batch, length) token ids on answer tokens and ``IGNORED`` elsewhere; None for prompts.
        ids: the rows' ids, in the order of the batch.
        window_tokens: answer tokens this process holds in the whole accumulation window of this micro-batch, of rows
            that the answer loss counts.
        joined_tokens: the same of each set of rows that joined the task's, counted by the answer loss or not.
        extras: per-sample values that mitigations attached, one entry per sample.
    """

    inputs: dict[str, Any]
    labels: Tensor | None
    ids: Sequence[str] = ()
    window_tokens: int = 0
    joined_tokens: Sequence[int] = ()
    extras: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.inputs["input_ids"].shape[0])

    def _map(self, move: Any) -> Self:
        def moved(value: Any) -> Any:
            return move(value) if isinstance(value, Tensor) else value

        return replace(
            self,
            inputs={key: moved(value) for key, value in self.inputs.items()},
            labels=moved(self.labels),
            extras={key: moved(value) for key, value in self.extras.items()},
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same batch on another device; Lightning calls this for every batch."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """The same batch in page-locked memory, for an asynchronous copy to a GPU."""
        return self._map(lambda tensor: tensor.pin_memory())
