"""Copies of tensors in the host's memory, from which a checkpoint is written while training goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lmmcl.checkpoint import TensorFile
from lmmcl.tensor_layout import as_bytes

_PIECE = 1 << 28
"""Bytes that are asked for at once; a power of two, since torch rounds pinned memory up to one."""
_MARGIN = 1 << 29
"""Bytes that stay free for everything else."""
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int | None:
    """Host memory that this process may still take, within its container's limit; None: the system does not say."""
    try:
        lines = _MEMINFO.read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    try:
        limit, used = ((_CGROUP / f"memory.{what}").read_text().strip() for what in ("max", "current"))
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        inside = int(limit) - int(used) + int(stat["inactive_file"])  # cached files make room
    except (OSError, ValueError, KeyError):  # another version of cgroups, or no limit ("max")
        return free
    return min(free, inside)


class HostMemory:
    """Memory for one copy of what a process writes; the same is used for every copy of the size.

    New memory costs more than the copy: the system clears it, and pins it where a GPU copies into it.

    Args:
        nodes: hosts that share what is written.
    """

    def __init__(self, nodes: int = 1) -> None:
        self._nodes = nodes
        self._pieces: list[Tensor] = []

    def holds(self, whole: int, mine: int) -> bool:
        """Whether a copy fits beside what else needs the host's memory.

        Args:
            whole: bytes that all processes copy together.
            mine: bytes that this process copies.
        """
        free = available_bytes()
        held = sum(len(piece) for piece in self._pieces)
        return mine <= held or free is None or whole // self._nodes + _MARGIN <= free + held

    def copy(self, file: TensorFile) -> TensorFile:
        """The same file, its values in this memory; those of the copy before are overwritten."""
        devices = {part.device for part in file.parts if part.is_cuda}
        pieces = self._take(file.size, pinned=bool(devices))
        at = 0
        for part in file.parts:
            at = _fill(pieces, at, as_bytes(part))
        for device in devices:
            torch.cuda.synchronize(device)
        return replace(file, parts=pieces)

    def free(self) -> None:
        """Gives the memory back."""
        self._pieces = []

    def _take(self, size: int, pinned: bool) -> list[Tensor]:
        sizes = [min(_PIECE, size - start) for start in range(0, size, _PIECE)]
        held = self._pieces[: len(sizes)]
        self._pieces = []  # gone before others are asked for
        for place, wanted in enumerate(sizes):
            fits = place < len(held) and len(held[place]) >= wanted and held[place].is_pinned() == pinned
            piece = held[place] if fits else torch.empty(wanted, dtype=torch.uint8, pin_memory=pinned)
            self._pieces.append(piece)
        return [piece[:wanted] for piece, wanted in zip(self._pieces, sizes, strict=True)]


def _fill(pieces: Sequence[Tensor], at: int, data: Tensor) -> int:
    """Writes bytes into pieces of one size from ``at`` on, and says where they end."""
    done = 0
    while done < len(data):
        place, offset = divmod(at, _PIECE)
        count = min(len(data) - done, _PIECE - offset)
        pieces[place][offset : offset + count].copy_(data[done : done + count], non_blocking=True)
        done, at = done + count, at + count
    return at
