"""What the processes of a tensor-parallel group do together with the parts and the copies of a tensor."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate

from lmmcl.data_parallel import TENSOR, tensor_group
from lmmcl.weights import is_cut, local, placement

_SMALL = 1 << 20


def with_whole_rows(tensor: Tensor) -> Tensor:
    """A matrix of which every process holds whole rows, if any: itself, unless its columns are cut; collective."""
    if not is_cut(tensor):
        return tensor
    assert isinstance(tensor, DTensor) and tensor.device_mesh.mesh_dim_names is not None
    place = tensor.device_mesh.mesh_dim_names.index(TENSOR)
    if tensor.placements[place].is_shard(0):
        return tensor
    placements = [*tensor.placements[:place], Replicate(), *tensor.placements[place + 1 :]]
    shards: Any = tensor.detach()
    rows: Tensor = shards.redistribute(placements=placements)
    return rows


@torch.no_grad()
def write_rows_(target: Tensor, rows: Tensor) -> None:
    """Writes a process's rows, as `with_whole_rows` deals them, into its part of a tensor, in place."""
    shape, offset = placement(target)
    columns = tuple(slice(begin, begin + size) for begin, size in zip(offset[1:], shape[1:], strict=True))
    local(target).copy_(rows[(slice(None), *columns)] if rows.dim() else rows)


@torch.no_grad()
def average_copies_(tensors: Iterable[Tensor]) -> None:
    """Averages what the processes of a tensor-parallel group computed each for itself, in place; collective.

    It is the same but for the last bits, where a GPU adds up in whatever order; copies must not drift apart.

    Args:
        tensors: shards, the same ones on every process; those that the group cuts among itself stay as they are.
    """
    group = tensor_group()
    if group is None:
        return
    copies = [local(tensor) for tensor in tensors if not is_cut(tensor)]
    small = [copy for copy in copies if copy.numel() < _SMALL]  # norms and biases travel together
    together = torch.cat([copy.flatten() for copy in small]) if small else torch.empty(0)
    for part in (together, *(copy for copy in copies if copy.numel() >= _SMALL)):
        if part.numel():
            dist.all_reduce(part, group=group)
            part.div_(dist.get_world_size(group))
    for copy, mean in zip(small, together.split([copy.numel() for copy in small]), strict=True):
        copy.copy_(mean.view(copy.shape))
