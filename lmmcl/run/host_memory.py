"""Copies of tensors in the host's memory, from which a checkpoint is written while training goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lmmcl.run.checkpoint import TensorFile
from lmmcl.tensor_layout import as_bytes

_PIECE = 1 << 28
"""Bytes that are asked for at once; a power of two, since torch rounds pinned memory up to one."""
_MARGIN = 1 << 29
"""Bytes that stay free for everything else."""
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def available_bytes() -> int | None:
    """Host memory that this process may still take, within its container's and its job's limits.

    Returns:
        bytes; None where the system does not say.
    """
    try:
        lines = _MEMINFO.read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    return min([free, *(inside for group in _groups() if (inside := _left_in(group)) is not None)])


def _groups() -> list[Path]:
    """The control group of this process and those around it: SLURM and systemd limit one further in than the root."""
    try:
        lines = _MEMBERSHIP.read_text().splitlines()
        name = next(line.removeprefix("0::") for line in lines if line.startswith("0::"))
    except (OSError, StopIteration):
        name = ""
    group = _CGROUP / name.strip("/")
    return [group, *(outer for outer in group.parents if outer.is_relative_to(_CGROUP))]


def _left_in(group: Path) -> int | None:
    """Bytes that a control group may still take; None: another version of cgroups, or no limit (``max``)."""
    try:
        limit, used = ((group / f"memory.{what}").read_text().strip() for what in ("max", "current"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return int(limit) - int(used) + int(stat["inactive_file"])  # cached files make room
    except (OSError, ValueError, KeyError):
        return None


class HostMemory:
    """Memory for one copy of what a process writes.

    Memory that is pinned for a GPU is kept and used for every copy, since pinning costs more than the copy; other
    memory goes back when the copy is written.

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
        if not devices:
            self.free()
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
