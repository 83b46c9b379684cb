"""What the collator hands to the model: padded or packed inputs, labels on answer tokens, and who the samples are."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor

from lmmcl.data.batches.apart import RowPictures

IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """One micro-batch of samples: padded, each in a sequence of its own, or packed (see `lmmcl.data.batches.packing`).

    Args:
        inputs: keyword arguments of the model's forward: ``input_ids`` (sequences, length), ``attention_mask``
            of the same shape, or ``position_ids`` in its place where the batch is packed, ``pixel_values`` and
            whatever else the processor makes.
        labels: (sequences, length) token ids on answer tokens and ``IGNORED`` elsewhere; None for prompts.
        ids: the rows' ids, in the order of the samples.
        window_tokens: answer tokens this process holds in the whole accumulation window of this micro-batch, of rows
            that the answer loss counts.
        joined_tokens: the same of each set of rows that joined the task's, counted by the answer loss or not.
        extras: per-sample values that mitigations attached, one entry per sample.
        segments: (sequences, length) the sample at every position of a packed batch, rising, -1 at padding; None: the
            batch is padded.
        idle: a place that no process needs in this window: nothing is computed.
        pictures: of each sample what the processor made of its pictures, None where it has none; empty: nobody asked.
    """

    inputs: dict[str, Any]
    labels: Tensor | None
    ids: Sequence[str] = ()
    window_tokens: int = 0
    joined_tokens: Sequence[int] = ()
    extras: dict[str, Any] = field(default_factory=dict)
    segments: Tensor | None = None
    idle: bool = False
    pictures: Sequence[RowPictures | None] = ()

    def __len__(self) -> int:
        """Samples, those of a filler included."""
        return int(self.inputs["input_ids"].shape[0]) if self.segments is None else len(self.ids)

    def mask(self) -> Tensor:
        """(sequences, length) where there are tokens, no padding."""
        if self.segments is not None:
            return self.segments >= 0
        mask = self.inputs.get("attention_mask")
        return torch.ones_like(self.inputs["input_ids"]).bool() if mask is None else mask.bool()

    def per_sample(self, at: Tensor) -> Tensor:
        """How many positions each sample has of those that are True.

        Args:
            at: (sequences, length), False at padding.

        Returns:
            (samples,) counts.
        """
        if self.segments is None:
            return at.sum(1)
        counts = torch.zeros(len(self), dtype=torch.long, device=at.device)
        return counts.index_add_(0, self.segments.clamp(min=0).flatten(), at.long().flatten())

    def _map(self, move: Any) -> Self:
        def moved(value: Any) -> Any:
            return move(value) if isinstance(value, Tensor) else value

        return replace(
            self,
            inputs={key: moved(value) for key, value in self.inputs.items()},
            labels=moved(self.labels),
            segments=moved(self.segments),
            extras={key: moved(value) for key, value in self.extras.items()},
        )

    def to(self, device: torch.device | str, non_blocking: bool | None = None) -> Self:
        """The same batch on another device; Lightning calls this for every batch.

        Args:
            device: where to.
            non_blocking: do not wait for the copy; None: only towards a GPU, where the kernels that read it do.
        """
        ahead = torch.device(device).type == "cuda" if non_blocking is None else non_blocking
        return self._map(lambda tensor: tensor.to(device, non_blocking=ahead))

    def pin_memory(self) -> Self:
        """The same batch in page-locked memory, for an asynchronous copy to a GPU."""
        return self._map(lambda tensor: tensor.pin_memory())
