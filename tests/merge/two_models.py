"""Small folders to merge: a base and models tuned from it, without any training."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lmmcl.merge.pieces import Merge
from lmmcl.merge.tensor_pieces import TensorPieces

SINGLE = "model.safetensors"


def tuned_from(base: Path, folder: Path, seed: int, size: float = 0.01) -> Path:
    """A copy of a checkpoint in one file whose values moved at random."""
    shutil.copytree(base, folder)
    tensors = load_file(folder / SINGLE)
    generator = torch.Generator().manual_seed(seed)
    for name, value in tensors.items():
        tensors[name] = value + size * torch.randn(value.shape, generator=generator).to(value.dtype)
    save_file(tensors, folder / SINGLE, {"format": "pt"})
    return folder


def merged(merge: Merge, base: Tensor, *tuned: Tensor, name: str = "weight") -> Tensor:
    """What a merge makes of one tensor."""
    pieces = TensorPieces(name, base, tuned)
    return torch.cat(list(map(merge(pieces), pieces))).view(base.shape)
