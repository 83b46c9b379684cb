"""Copy, swap, mix and check tensors by name, on plain tensors and on shards alike; the one place where it happens."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from lmmcl.data_parallel import TENSOR, sum_over_shares, tensor_group, tensor_rank

Tensors = Mapping[str, Tensor]

WRAPPED = "base_layer"
"""Under which an adapter's layer holds the layer that it wraps, in peft and here."""

_CHUNK, _CHUNK_ON_CPU = 1 << 24, 1 << 18
"""Elements of a checksum's step: many keep a GPU busy, few stay in a processor's cache, ten times as fast."""
_KEPT = 1 << 14
"""Constants of a checksum that are kept: biases, norms and most tensors of a small model need no more."""
_SMALL = 1 << 20
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def parameters_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a model by name, in model order; what an adapter wraps keeps the name that it had."""
    return {name.replace(f".{WRAPPED}.", "."): parameter for name, parameter in model.named_parameters()}


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, without a gradient; collective where it is sharded."""
    if not isinstance(tensor, DTensor):
        return tensor.detach()
    shards: Any = tensor.detach()
    # Over one dimension of the mesh after the other, as it was cut.
    for done in range(1, shards.device_mesh.ndim):
        shards = shards.redistribute(placements=[*[Replicate()] * done, *shards.placements[done:]])
    full: Tensor = shards.full_tensor()
    return full


@torch.no_grad()
def write_whole_(target: Tensor, values: Tensor) -> None:
    """Writes a whole tensor, or this process's part of it, in place and in the target's dtype."""
    shape, offset = placement(target)
    part = values[tuple(slice(begin, begin + size) for begin, size in zip(offset, shape, strict=True))]
    local(target).copy_(part)


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that lives on this process: its shard under FSDP2, all of it elsewhere."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def placement(tensor: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape of the local part and where it begins in the whole tensor, per dimension."""
    if not isinstance(tensor, DTensor):
        return tuple(tensor.shape), (0,) * tensor.dim()
    shape, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return tuple(shape), tuple(offset)


def is_cut(tensor: Tensor) -> bool:
    """Whether the processes of one tensor-parallel group hold different parts of a tensor."""
    if not isinstance(tensor, DTensor):
        return False
    names = tensor.device_mesh.mesh_dim_names or ()
    return TENSOR in names and not tensor.placements[names.index(TENSOR)].is_replicate()


def holds_first(tensor: Tensor) -> bool:
    """Whether this is the first of all processes that hold the same part of a tensor: one may speak for each part."""
    if isinstance(tensor, DTensor):
        return is_cut(tensor) or tensor_rank() == 0
    return not dist.is_initialized() or dist.get_rank() == 0


@torch.no_grad()
def snapshot(tensors: Tensors) -> dict[str, Tensor]:
    """Detached copies, sharded as the originals are."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@torch.no_grad()
def copy_(targets: Tensors, sources: Tensors) -> None:
    """Writes ``sources`` into ``targets`` in place; both must hold the same names.

    Raises:
        KeyError: a name is in one and not in the other.
    """
    _same_names(targets, sources)
    for name, target in targets.items():
        local(target).copy_(local(sources[name]))


@torch.no_grad()
def mix_(targets: Tensors, others: Tensors, alpha: float) -> None:
    """In place θ ← α θ_other + (1 − α) θ, summed in fp32; α 0 and 1 give either side byte for byte.

    What is equal on both sides stays as it is. fp32 is mixed in one pass over memory, other dtypes a piece at a time.

    Raises:
        KeyError: a name is in one and not in the other.
    """
    _same_names(targets, others)
    if alpha == 0.0:
        return
    if alpha == 1.0:
        copy_(targets, others)
        return
    for name, target in targets.items():
        mine, other = local(target), local(others[name])
        if mine.dtype == other.dtype == torch.float32:
            mine.lerp_(other, alpha)
            continue
        for part, beside in _pieces(mine, other):
            part.copy_(part.float().lerp_(beside.float(), alpha))


@contextmanager
def swapped(targets: Tensors, others: Tensors) -> Iterator[None]:
    """Exchanges the values of two sets of tensors for the time of a ``with`` block.

    Plain tensors exchange their storage, which moves nothing: whoever holds them (an optimizer, DDP) holds the tensor
    and finds its own storage again afterwards. Between shards values move, for FSDP2 and DTensor keep views of that
    memory; the extra memory is then one tensor at a time. Nothing may be recorded for a backward pass inside.
    """
    _same_names(targets, others)
    _exchange(targets, others)
    try:
        yield
    finally:
        _exchange(targets, others)


def checksums(tensors: Tensors) -> dict[str, str]:
    """A 64-bit checksum of each whole tensor as 16 hex digits, the same however it is sharded.

    The words of a tensor, read as integers, are multiplied with odd constants keyed by their position and summed
    modulo 2⁶⁴ on the tensor's device. Collective: under FSDP2 every process must call it with the same names.
    """
    if not tensors:
        return {}
    sums = {name: _partial_checksum(tensor) for name, tensor in tensors.items()}
    sharded = [name for name, tensor in tensors.items() if isinstance(tensor, DTensor)]
    if sharded and dist.is_initialized():
        total = torch.stack([sums[name] for name in sharded])
        # What a tensor-parallel group does not cut is summed for each process of it: copies that differ are found.
        sum_over_shares(total)
        cut = torch.tensor([is_cut(tensors[name]) for name in sharded], device=total.device)
        if (group := tensor_group()) is not None:
            parts = total * cut
            dist.all_reduce(parts, group=group)
            total = torch.where(cut, parts, total)
        sums.update(zip(sharded, total, strict=True))
    values = torch.stack([sums[name].cpu() for name in tensors]).tolist()
    return {name: f"{value & (2**64 - 1):016x}" for name, value in zip(tensors, values, strict=True)}


def fingerprint(sums: Mapping[str, str]) -> str:
    """One 64-bit checksum of many, as 16 hex digits: sensitive to every name and value, not to their order."""
    import hashlib

    text = "\n".join(f"{name} {sums[name]}" for name in sorted(sums))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _same_names(targets: Tensors, others: Tensors) -> None:
    if targets.keys() != others.keys():
        odd = sorted(targets.keys() ^ others.keys())
        raise KeyError(f"{len(odd)} tensors are in one model and not in the other, for example {odd[0]}")


@torch.no_grad()
def _exchange(targets: Tensors, others: Tensors) -> None:
    for name, target in targets.items():
        other = others[name]
        if _may_exchange_storage(target, other):
            target.data, other.data = other.data, target.data
            continue
        mine, theirs = local(target), local(other)
        held = mine.clone()
        mine.copy_(theirs)
        theirs.copy_(held)


def _may_exchange_storage(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors differ in nothing but where their values lie."""
    plain = {type(one), type(other)} <= {Tensor, nn.Parameter}
    layout = (one.dtype, one.device, one.shape, one.stride())
    return plain and layout == (other.dtype, other.device, other.shape, other.stride())


def _pieces(one: Tensor, other: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
    """Views of two tensors, small enough for a fp32 copy of each; the whole ones where either has gaps."""
    if not (one.is_contiguous() and other.is_contiguous()):
        return [(one, other)]
    return zip(one.view(-1).split(_SMALL), other.view(-1).split(_SMALL), strict=True)


@torch.no_grad()
def _partial_checksum(tensor: Tensor) -> Tensor:
    """This process's share of a tensor's checksum, an int64 scalar on its device."""
    part = local(tensor).detach().contiguous()
    words = part.view(torch.uint8) if part.dtype == torch.bool else part
    words = words.view(_WORDS[words.element_size()]).flatten()
    total = torch.zeros((), dtype=torch.int64, device=part.device)
    step = _CHUNK_ON_CPU if part.device.type == "cpu" else _CHUNK
    for start in range(0, words.numel(), step):
        chunk = words[start : start + step].to(torch.int64)
        total += (chunk * _constants(tensor, start, chunk.numel(), part.device)).sum()
    return total


def _constants(tensor: Tensor, start: int, count: int, device: torch.device) -> Tensor:
    """The constants of ``count`` elements of the local part, beginning at ``start``."""
    first = _first_position(tensor)
    if first is not None and first + start + count <= _KEPT:
        return _first_constants(device)[first + start : first + start + count]
    return _odd_constant(global_index(tensor, start, count, device))


@cache
def _first_constants(device: torch.device) -> Tensor:
    """Of the first elements of any tensor."""
    return _odd_constant(torch.arange(_KEPT, dtype=torch.int64, device=device))


def _first_position(tensor: Tensor) -> int | None:
    """Where the local part begins in the whole tensor, flat; None where it is not one run of it."""
    if not isinstance(tensor, DTensor):
        return 0
    shape, offset = placement(tensor)
    rest = tensor.shape[1:]
    return offset[0] * rest.numel() if shape[1:] == tuple(rest) else None


def global_index(tensor: Tensor, start: int, count: int, device: torch.device) -> Tensor:
    """Flat positions in the whole tensor of ``count`` elements of the local part, beginning at ``start``."""
    index = torch.arange(start, start + count, dtype=torch.int64, device=device)
    if (first := _first_position(tensor)) is not None:
        return index + first
    shape, offset = placement(tensor)
    position, stride = torch.zeros_like(index), 1
    for size, whole, begin in reversed(list(zip(shape, tensor.shape, offset, strict=True))):
        position += (index % size + begin) * stride
        index, stride = index // size, stride * whole
    return position


def _odd_constant(index: Tensor) -> Tensor:
    """Position-keyed odd 64-bit constants: a multiply-xorshift hash, so that no simple pattern of changes cancels."""
    mixed = index * -7046029254386353131 + 1442695040888963407
    mixed = (mixed ^ ((mixed >> 32) & 0xFFFFFFFF)) * -4658895280553007687
    return (mixed ^ ((mixed >> 29) & 0x7FFFFFFFF)) | 1
