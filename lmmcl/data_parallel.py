"""Which share of the data this process has: the processes of one tensor-parallel group take the same rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

DATA, TENSOR = "data_parallel", "tensor_parallel"
"""Names of the two dimensions of a mesh of processes; Lightning's."""


@dataclass
class _Arrangement:
    """How the processes stand, once for all of them as the process group is; None: each has rows of its own."""

    mesh: DeviceMesh | None = None


_PROCESSES = _Arrangement()


def arrange(mesh: DeviceMesh | None) -> None:
    """Says how the processes stand; the strategy does, when it sets them up and when it lets go of them.

    Args:
        mesh: of all processes, with the dimensions `DATA` and `TENSOR`; None: all are data-parallel.
    """
    _PROCESSES.mesh = mesh


def share() -> tuple[int, int]:
    """Which share of the rows this process takes, from 0, and how many shares there are."""
    mesh = _PROCESSES.mesh
    if mesh is not None:
        return mesh.get_local_rank(DATA), mesh[DATA].size()
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def tensor_rank() -> int:
    """Which of the processes with the same rows this one is, from 0."""
    return 0 if _PROCESSES.mesh is None else _PROCESSES.mesh.get_local_rank(TENSOR)


def data_group() -> dist.ProcessGroup | None:
    """Processes that together have every row once, this one among them; None stands for all processes."""
    return None if _PROCESSES.mesh is None else _PROCESSES.mesh.get_group(DATA)


def tensor_group() -> dist.ProcessGroup | None:
    """Processes that have the rows of this one; None where it is alone with them."""
    return None if _PROCESSES.mesh is None else _PROCESSES.mesh.get_group(TENSOR)


def sum_over_shares(total: Tensor) -> None:
    """Adds up, in place, what the processes found in their rows, every row once; collective."""
    if dist.is_initialized():
        dist.all_reduce(total, group=data_group())
