"""Weights that one process reads and that go straight into the shards of all: no other ever holds the whole model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lmmcl.agreement import agreed
from lmmcl.errors import UserError
from lmmcl.loading import Checkpoint
from lmmcl.weights import write_whole_

Slot = tuple[dict[str, Any], str]
"""A dictionary of a module and the key under which it holds a tensor."""


def load_once(checkpoint: Checkpoint, full_precision: bool, seed: int, attention: str | None) -> nn.Module:
    """The model of a checkpoint: with its values on the first process, on all others without, on the meta device.

    Structure, dtypes and generation config are the same on all. Collective; an error of one is raised on all.

    Args:
        checkpoint: which.
        full_precision: see `Checkpoint.model`, as the two below.
        seed: of new weights.
        attention: name of an attention kernel.

    Raises:
        UserError: it cannot be loaded; or a process builds another model than the first.
    """
    model: nn.Module | None = None
    with agreed():
        if _rank() == 0:
            model = checkpoint.model(full_precision, seed, attention)
    plan: _Plan = _told(None if model is None else _Plan.of(model))
    with agreed():
        if model is None:
            model = checkpoint.skeleton(plan.dtype, attention)
            plan.follow(checkpoint.path, model)
    assert model is not None
    return model


def take_values(model: nn.Module) -> dict[str, Tensor]:
    """Takes the values out of a model, which stays behind on the meta device with the same tensors, ties and dtypes.

    Returns:
        by name, every tensor that had values: parameters, buffers (also those that no state dict holds) and tensors
        that are plain attributes; each once, however many places share it.
    """
    values: dict[str, Tensor] = {}
    for name, slots in _slots(model).items():
        tensor = _at(slots)
        if not tensor.is_meta:
            values[name] = tensor.detach()
            _put(slots, torch.empty_like(tensor, device="meta"))
    return values


@torch.no_grad()
def fill_(model: nn.Module, values: dict[str, Tensor], device: torch.device) -> None:
    """Gives a model without values its tensors on a device, sharded as they are, and their values, one by one.

    Collective. Beside its shards a process holds one whole tensor at a time.

    Args:
        model: on the meta device, on every process.
        values: what `take_values` gave on the first process; each is let go as soon as it was sent. The other
            processes' are not looked at.
        device: of this process.

    Raises:
        RuntimeError: the processes' models differ.
    """
    told: list[tuple[str, torch.Size, torch.dtype]] = _told(
        [(name, value.shape, value.dtype) for name, value in values.items()] if _rank() == 0 else None
    )
    slots = _slots(model)
    with agreed():
        if odd := {name for name, _, _ in told} ^ slots.keys():
            raise RuntimeError(f"{min(odd)} is in the model of one process and not in that of another")
        for name, shape, dtype in told:
            tensor = _at(slots[name])
            if isinstance(tensor, nn.Parameter):
                if tensor.shape != shape:
                    raise RuntimeError(f"{name} is {tuple(tensor.shape)} here and {tuple(shape)} elsewhere")
                _put(slots[name], torch.empty_like(tensor, device=device))
            else:
                _put(slots[name], torch.empty(shape, dtype=dtype, device=device))
    for name, shape, dtype in told:
        if _rank() == 0:
            whole = values.pop(name).to(device).contiguous()
        else:
            whole = torch.empty(shape, dtype=dtype, device=device)
        if _world() > 1:
            dist.broadcast(whole.view(-1).view(torch.uint8), src=0)  # bytes: every backend has them
        write_whole_(_at(slots[name]), whole)


@dataclass(frozen=True)
class _Plan:
    """What of a loaded model does not follow from its config."""

    dtype: torch.dtype
    parameters: dict[str, tuple[torch.Size, torch.dtype]]
    generation: Any

    @staticmethod
    def of(model: Any) -> _Plan:
        parameters = {name: (p.shape, p.dtype) for name, p in model.named_parameters()}
        return _Plan(model.dtype, parameters, getattr(model, "generation_config", None))

    def follow(self, path: str, model: Any) -> None:
        """Makes a model without values what the first process has loaded."""
        mine = {name: parameter.shape for name, parameter in model.named_parameters()}
        first = {name: shape for name, (shape, _) in self.parameters.items()}
        if mine != first:
            odd = min(name for name in mine.keys() | first.keys() if mine.get(name) != first.get(name))
            raise UserError(
                f"model.path: process {_rank()} builds another model of {path} than the first ({odd} differs). See to "
                "it that all nodes have the same files and the same versions of transformers."
            )
        for name, parameter in model.named_parameters():
            parameter.data = parameter.data.to(self.parameters[name][1])
        if self.generation is not None:
            model.generation_config = self.generation


def _slots(model: nn.Module) -> dict[str, list[Slot]]:
    """Every tensor of a model by its first name, with all places that hold it: tied weights are one tensor."""
    names: dict[int, str] = {}
    found: dict[str, list[Slot]] = {}
    for path, module in model.named_modules():
        for holder, key, tensor in _held(module):
            name = names.setdefault(id(tensor), f"{path}.{key}" if path else key)
            found.setdefault(name, []).append((holder, key))
    return found


def _held(module: nn.Module) -> Iterator[tuple[dict[str, Any], str, Tensor]]:
    holders: tuple[dict[str, Any], ...] = (module._parameters, module._buffers, vars(module))
    for holder in holders:
        for key, tensor in holder.items():
            if isinstance(tensor, Tensor):
                yield holder, key, tensor


def _at(slots: list[Slot]) -> Tensor:
    holder, key = slots[0]
    tensor: Tensor = holder[key]
    return tensor


def _put(slots: list[Slot], tensor: Tensor) -> None:
    """Puts a tensor into all places of another, as a parameter where that was one."""
    old = _at(slots)
    new = nn.Parameter(tensor, old.requires_grad) if isinstance(old, nn.Parameter) else tensor
    for holder, key in slots:
        holder[key] = new


def _told(what: Any) -> Any:
    """What the first process says."""
    if _world() == 1:
        return what
    said = [what]
    dist.broadcast_object_list(said, src=0)
    return said[0]


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1
