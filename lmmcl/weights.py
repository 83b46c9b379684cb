"""Copy, swap, mix and check tensors by name, on plain tensors and on shards alike; the one place where it happens."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

Tensors = Mapping[str, Tensor]

WRAPPED = "base_layer"
"""Under which an adapter's layer holds the layer that it wraps, in peft and here."""

_CHUNK = 1 << 24
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def parameters_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a model by name, in model order; what an adapter wraps keeps the name that it had."""
    return {name.replace(f".{WRAPPED}.", "."): parameter for name, parameter in model.named_parameters()}


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, without a gradient; collective where it is sharded."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


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
        mine.copy_(alpha * other.float() + (1.0 - alpha) * mine.float())


@contextmanager
def swapped(targets: Tensors, others: Tensors) -> Iterator[None]:
    """Exchanges the values of two sets of tensors for the time of a ``with`` block.

    Values move, storage stays: optimizers, DDP buckets and FSDP2's flat views go on pointing at the same memory. The
    extra memory is one tensor at a time.
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
        dist.all_reduce(total)
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
        mine, other = local(target), local(others[name])
        held = mine.clone()
        mine.copy_(other)
        other.copy_(held)


@torch.no_grad()
def _partial_checksum(tensor: Tensor) -> Tensor:
    """This process's share of a tensor's checksum, an int64 scalar on its device."""
    part = local(tensor).detach().contiguous()
    words = part.view(torch.uint8) if part.dtype == torch.bool else part
    words = words.view(_WORDS[words.element_size()]).flatten()
    total = torch.zeros((), dtype=torch.int64, device=part.device)
    for start in range(0, words.numel(), _CHUNK):
        chunk = words[start : start + _CHUNK].to(torch.int64)
        index = global_index(tensor, start, chunk.numel(), part.device)
        total += (chunk * _odd_constant(index)).sum()
    return total


def global_index(tensor: Tensor, start: int, count: int, device: torch.device) -> Tensor:
    """Flat positions in the whole tensor of ``count`` elements of the local part, beginning at ``start``."""
    index = torch.arange(start, start + count, dtype=torch.int64, device=device)
    if not isinstance(tensor, DTensor):
        return index
    shape, offset = placement(tensor)
    if shape[1:] == tuple(tensor.shape[1:]):
        return index + offset[0] * tensor.shape[1:].numel()
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
