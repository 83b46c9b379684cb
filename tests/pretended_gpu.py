"""A GPU that is none: what is "on" it is computed on the CPU, refuses to meet what is not, and waits are counted.

Code that runs here goes the way that it goes on a GPU: ``device="cuda"``, its autocast, Lightning's accelerator. What
would fail there fails here: tensors of host and device in one operation, a generator of the host, ``numpy()``. It shows
neither speed nor memory, nor what kernels refuse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from lightning.fabric.accelerators.cuda import CUDAAccelerator
from torch import Tensor, nn
from torch.amp import autocast_mode
from torch.autograd.graph import _engine_run_backward
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map
from typing_extensions import override

GPU = torch.device("cuda", 0)
_group_tensors = torch._C._group_tensors_by_device_and_dtype
_HOST = torch.device("cpu")

_MOVES = {Tensor.to, Tensor.copy_, Tensor.cpu, Tensor.cuda, torch.as_tensor, torch.tensor}
_INDEXES = {Tensor.__getitem__, Tensor.__setitem__, Tensor.index_put, Tensor.index_put_}
"""These take indices of the host, and wait for them to be copied."""
_WAITS = {
    *(Tensor.item, Tensor.tolist, Tensor.__int__, Tensor.__float__, Tensor.__bool__, Tensor.__index__),
    *(Tensor.nonzero, torch.nonzero, Tensor.masked_select, torch.masked_select, Tensor.equal, torch.equal),
    *(torch.allclose, torch.bincount, Tensor.bincount, torch.unique, Tensor.unique),
}


class OnGPU(Tensor):
    """A tensor that says that it is on the GPU."""

    @property
    @override
    def device(self) -> torch.device:  # type: ignore[override]  # torch's is an attribute
        """The GPU."""
        return GPU

    @property
    @override
    def is_cuda(self) -> bool:  # type: ignore[override]
        """It is."""
        return True

    @property
    @override
    def is_cpu(self) -> bool:  # type: ignore[override]
        """It is not."""
        return False

    @classmethod
    @override
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, dict(kwargs or {}), Counter(), set())


class _Machine(TorchFunctionMode):
    """Sees every call of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.pinned: set[int] = set()

    @override
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, dict(kwargs or {}), self.waits, self.pinned)

    def backward(self, *args: Any, **named: Any) -> Any:
        """A backward pass, in which calls are seen, too: `Tensor.backward` is one call."""
        with nullcontext() if torch._C._is_torch_function_mode_enabled() else self:
            return _engine_run_backward(*args, **named)


def _run(func: Any, args: Sequence[Any], named: dict[str, Any], waits: Counter[str], pinned: set[int]) -> Any:
    if func is Tensor.is_pinned:
        return not isinstance(args[0], OnGPU) and _address(args[0]) in pinned
    if func is Tensor.pin_memory:
        return _pin(args[0].clone(), pinned)
    if named.pop("pin_memory", False):
        return _pin(func(*args, **named), pinned)
    given = [one for one in tree_flatten((args, named))[0] if isinstance(one, Tensor)]
    there = any(isinstance(one, OnGPU) for one in given)
    to = _target(func, args, named)
    if not there and (to is None or to.type != "cuda"):
        return _call(func, args, named)
    if func is torch._has_compatible_shallow_copy_type:
        return isinstance(args[0], OnGPU) == isinstance(args[1], OnGPU)
    if func is Tensor.__deepcopy__ and isinstance(args[0], OnGPU):
        copy = args[0].detach().clone()
        return nn.Parameter(copy, args[0].requires_grad) if isinstance(args[0], nn.Parameter) else copy
    if func is Tensor.numpy:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
    _check(func, given, named)
    _count(func, args, named, to, waits, pinned)
    args, named = tree_map(_on_host, (args, named))
    if func in (Tensor.cpu, Tensor.cuda):
        found = args[0].clone()
    else:
        found = _call(func, args, named)
        # A move is a copy, here too.
        if func is Tensor.to and found is given[0] and to is not None and (to.type == "cuda") != there:
            found = found.clone()
    stays = there if to is None else to.type == "cuda"
    return found if isinstance(found, torch.Size) else tree_map(_as_gpu if stays else _as_host, found)


def _call(func: Any, args: Sequence[Any], named: Mapping[str, Any]) -> Any:
    with torch._C.DisableTorchFunctionSubclass():
        return func(*args, **named)


def _pin(tensor: Tensor, pinned: set[int]) -> Tensor:
    pinned.add(_address(tensor))
    return tensor


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _target(func: Any, args: Sequence[Any], named: Mapping[str, Any]) -> torch.device | None:
    """Where a call puts its result, if it says so."""
    if func is Tensor.cpu:
        return _HOST
    if func is Tensor.cuda:
        return GPU
    wanted = named.get("device")
    if func is Tensor.to and wanted is None:
        wanted = next((one for one in args[1:] if isinstance(one, str | torch.device | Tensor)), None)
    if isinstance(wanted, Tensor):
        wanted = wanted.device
    return None if wanted is None else torch.device(wanted)


def _on_host(value: Any) -> Any:
    """The same argument, of a call that computes on the CPU."""
    named = isinstance(value, str) and value.startswith("cuda")
    return _HOST if named or isinstance(value, torch.device) else value


def _as_gpu(value: Any) -> Any:
    return value.as_subclass(OnGPU) if type(value) is Tensor else value


def _as_host(value: Any) -> Any:
    return value.as_subclass(Tensor) if isinstance(value, OnGPU) else value


def _check(func: Any, given: Sequence[Tensor], named: Mapping[str, Any]) -> None:
    generator = named.get("generator")
    if generator is not None and generator.device.type == "cpu":
        raise RuntimeError(f"{func}: Expected a 'cuda' device type for generator but found 'cpu'")
    # What a backward pass hands over says nothing of where it is.
    if func in _MOVES or func in _INDEXES or torch._C._current_graph_task_id() >= 0:
        return
    strangers = [one for one in given if not isinstance(one, OnGPU) and one.dim()]
    if strangers and any(isinstance(one, OnGPU) for one in given):
        raise RuntimeError(
            f"{getattr(func, '__name__', func)}: Expected all tensors to be on the same device, but found at least two "
            f"devices, cuda:0 and cpu, for a tensor of {tuple(strangers[0].shape)}"
        )


def _count(
    func: Any,
    args: Sequence[Any],
    named: Mapping[str, Any],
    to: torch.device | None,
    waits: Counter[str],
    pinned: Collection[int],
) -> None:
    """Notes what makes the host wait for the device."""
    what = getattr(func, "__name__", str(func))
    ahead = bool(named.get("non_blocking"))
    if func in _WAITS:
        waits[what] += 1
    elif func in (torch.tensor, torch.as_tensor):
        waits["host to device"] += 1
    elif func in _INDEXES:
        places = [one for one in tree_flatten(args[1])[0] if isinstance(one, Tensor)]
        filled = func is Tensor.__setitem__ and not (isinstance(args[2], Tensor) and args[2].dim())
        if any(one.dtype == torch.bool and one.dim() for one in places) and not filled:
            waits[f"{what} by a mask"] += 1
        if any(not isinstance(one, OnGPU) for one in places):
            waits[f"{what} by indices of the host"] += 1
    elif func is Tensor.copy_:
        ahead = ahead or args[2:3] == (True,)
        if isinstance(args[0], OnGPU) != isinstance(args[1], OnGPU) and not ahead:
            waits["copy_ between host and device"] += 1
    elif func in (Tensor.to, Tensor.cpu, Tensor.cuda) and to is not None:
        there, goes = isinstance(args[0], OnGPU), to.type == "cuda"
        if there and not goes and not ahead:
            waits["device to host"] += 1
        if goes and not there and not (ahead and _address(args[0]) in pinned):
            waits["host to device"] += 1


def _grouped(lists: Any, with_indices: bool = False) -> Any:
    """Torch's own, which knows what it groups by where it really is."""
    groups = _group_tensors(lists, with_indices)
    return {
        (GPU if isinstance(found[0][0][0], OnGPU) else device, dtype): found
        for (device, dtype), found in groups.items()
    }


class _Autocast(autocast_mode.autocast):
    """That of the CPU, which casts the same operations, in the place of that of the GPU."""

    @override
    def __init__(self, device_type: str, *args: Any, **named: Any) -> None:
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **named)


@contextmanager
def pretended_gpu() -> Iterator[Counter[str]]:
    """There is a GPU for as long as it is open; gives what made the host wait for it, and how often."""
    machine = _Machine()
    known = SimpleNamespace(name="pretended", total_memory=1 << 40, major=9, minor=0)
    instead: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "mem_get_info": lambda device=None: (known.total_memory, known.total_memory),
        **dict.fromkeys(
            ("memory_allocated", "memory_reserved", "max_memory_allocated"), lambda device=None: 0
        ),
        "get_device_name": lambda device=None: known.name,
        "get_device_capability": lambda device=None: (known.major, known.minor),
        "get_device_properties": lambda device=None: known,
    }
    silent = ("set_device", "synchronize", "empty_cache", "reset_peak_memory_stats", "manual_seed_all")
    instead |= dict.fromkeys(silent, lambda *args: None)
    enabled, dtype = torch.is_autocast_enabled, torch.get_autocast_dtype

    def is_autocast_enabled(kind: str = "cpu") -> bool:
        return enabled("cpu")

    def get_autocast_dtype(kind: str) -> torch.dtype:
        return dtype("cpu")

    with ExitStack() as stack:
        stack.enter_context(mock.patch.multiple(torch.cuda, **instead))
        stack.enter_context(mock.patch.object(CUDAAccelerator, "is_available", staticmethod(lambda: True)))
        for place in (torch, torch.amp, autocast_mode):
            stack.enter_context(mock.patch.object(place, "autocast", _Autocast))
        stack.enter_context(mock.patch.object(torch, "is_autocast_enabled", is_autocast_enabled))
        stack.enter_context(mock.patch.object(torch, "get_autocast_dtype", get_autocast_dtype))
        stack.enter_context(mock.patch.object(torch._C, "_group_tensors_by_device_and_dtype", _grouped))
        # Calls of other threads are not seen.
        stack.enter_context(mock.patch.dict("os.environ", HF_DEACTIVATE_ASYNC_LOAD="1"))
        stack.enter_context(mock.patch.object(torch.autograd, "_engine_run_backward", machine.backward))
        stack.enter_context(machine)
        yield machine.waits
