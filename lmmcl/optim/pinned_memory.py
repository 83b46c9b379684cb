"""Many tensors in the host's pinned memory, in a few large pieces of it."""

from __future__ import annotations

import torch
from torch import Tensor

_PIECE = 1 << 30
"""Numbers of a piece: 4 GiB."""


class PinnedMemory:
    """Gives out tensors of zeros in fp32, laid one after the other.

    Torch asks the system for a power of two for each pinned tensor: for some models twice what they need.

    Args:
        numbers: of all tensors that will be asked for.
    """

    def __init__(self, numbers: int) -> None:
        self._ahead = numbers
        self._pieces: list[Tensor] = []

    def zeros(self, shape: torch.Size) -> Tensor:
        """The next tensor."""
        count = shape.numel()
        place = next((i for i, piece in enumerate(self._pieces) if len(piece) >= count), len(self._pieces))
        if place == len(self._pieces):
            size = max(count, min(_PIECE, self._ahead))
            self._pieces.append(torch.zeros(size, dtype=torch.float32, pin_memory=torch.cuda.is_available()))
        piece = self._pieces[place]
        self._pieces[place], self._ahead = piece[count:], self._ahead - count
        return piece[:count].view(shape)
