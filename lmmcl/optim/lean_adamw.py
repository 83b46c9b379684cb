"""AdamW that takes less memory: moments in 8 bits or in the host's memory, and trained tensors in bf16."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, zeros
from torch.nn import Parameter
from torch.optim import Optimizer
from typing_extensions import override

from lmmcl.optim.counter_noise import key_of, noise, round_stochastically, unit
from lmmcl.optim.eight_bit import blocks_of, decode, encode_
from lmmcl.optim.pinned_memory import PinnedMemory
from lmmcl.optim.trained_bytes import Rounding
from lmmcl.weights import local

Moments = Literal["fp32", "8bit", "offloaded"]

_AT_ONCE = 1 << 22
"""Numbers that are updated at once: what is made on the way in fp32 takes at most 200 MiB."""


class LeanAdamW(Optimizer):
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101), every update computed in fp32, a part of a tensor at a time.

    - **8bit**: first moments and the roots of the second are codes of one byte with a scale for every 256 numbers of a
      row (Dettmers et al., arXiv 2110.02861); of roots a code reaches twice as many decades down, so that none becomes
      0 where its block has a large one. They are rounded at random: small changes of a slow mean would be swallowed.
      Vectors keep fp32.
    - **offloaded**: moments lie in the host's pinned memory and visit the device a tensor at a time.
    - **bf16 tensors** are written by stochastic rounding, or keep in bf16 what rounding took (Kahan, 1965): both follow
      fp32 masters, where rounding to nearest swallows most of what a small learning rate does.

    Random bits follow from seed, step, name and place: a resumed or differently sharded run has the same.

    Args:
        groups: parameter groups with ``params``, ``lr`` and ``weight_decay``.
        names: of all parameters.
        betas: Adam's decay rates.
        eps: added to the root of the second moment.
        moments: how they are held.
        rounding: of tensors in bf16.
        seed: of the random bits; another for every task.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        names: Mapping[Parameter, str],
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        moments: Moments = "fp32",
        rounding: Rounding | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(groups, {"betas": betas, "eps": eps})
        self._names, self._moments, self._rounding, self._seed = dict(names), moments, rounding, seed
        host = PinnedMemory(2 * sum(parameter.numel() for parameter in self._names))
        for parameter in self._names:
            if parameter.dtype != torch.float32 and rounding is None:
                raise ValueError(f"{parameter.dtype} without a rounding would swallow updates")
            self.state[parameter] = self._fresh(parameter, host)

    def _fresh(self, parameter: Parameter, host: PinnedMemory) -> dict[str, Tensor]:
        """The state before the first step; made at once, so that a checkpoint can be read into it."""
        state = {"step": torch.zeros((), dtype=torch.float32)}
        for name in ("exp_avg", "exp_avg_sq"):
            if self._moments == "8bit" and parameter.dim() > 1:
                state[name] = torch.zeros_like(parameter, dtype=torch.uint8, requires_grad=False)
                state[f"{name}_scale"] = _scales(parameter)
            elif self._moments == "offloaded":
                state[name] = host.zeros(parameter.shape)
            else:
                state[name] = torch.zeros_like(parameter, dtype=torch.float32, requires_grad=False)
        if self._rounding == "kahan" and parameter.dtype == torch.bfloat16:
            state["compensation"] = torch.zeros_like(parameter, requires_grad=False)
        return state

    @torch.no_grad()
    @override
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates everything that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and local(parameter).numel():
                    self._update(parameter, group)
                elif parameter.grad is not None:
                    self.state[parameter]["step"] += 1
        return loss

    def _update(self, parameter: Parameter, group: Mapping[str, Any]) -> None:
        state, held, gradient = self.state[parameter], local(parameter), parameter.grad
        assert gradient is not None
        state["step"] += 1
        step = int(state["step"])
        key = key_of(self._seed, step, self._names[parameter])
        shape = (held.shape[0], -1) if held.dim() > 1 else (1, -1)
        views = {name: local(value).view(shape) for name, value in state.items() if name != "step"}
        visiting = _MOMENTS if self._moments == "offloaded" else ()
        views |= {name: views[name].to(held.device, non_blocking=True) for name in visiting}
        values, slopes = held.view(shape), local(gradient).reshape(shape)
        width = values.shape[1]
        rows = max(1, _AT_ONCE // max(1, width))
        for start in range(0, len(values), rows):
            part = {name: view[start : start + rows] for name, view in views.items()}
            words: Tensor | None = None
            if "exp_avg_scale" in part or (self._rounding == "stochastic" and held.dtype == torch.bfloat16):
                count = len(part["exp_avg"]) * width
                words = noise(key, parameter, start * width, count, held.device).view(-1, width)
            change = _advance(part, slopes[start : start + rows].float(), group, step, words)
            _write(values[start : start + rows], change, group, part.get("compensation"), words)
        for name in visiting:
            state[name].view(shape).copy_(views[name])


_MOMENTS = ("exp_avg", "exp_avg_sq")


def _advance(
    part: Mapping[str, Tensor], slopes: Tensor, group: Mapping[str, Any], step: int, words: Tensor | None
) -> Tensor:
    """Takes a gradient into the moments, (rows, n), and gives the step that they make, in fp32."""
    first, second = group["betas"]
    if "exp_avg_scale" in part:
        assert words is not None
        mean = decode(part["exp_avg"], part["exp_avg_scale"], signed=True)
        square = decode(part["exp_avg_sq"], part["exp_avg_sq_scale"], signed=False).square_()
    else:
        mean, square = part["exp_avg"], part["exp_avg_sq"]
    mean.lerp_(slopes, 1 - first)
    square.mul_(second).addcmul_(slopes, slopes, value=1 - second)
    root = square.sqrt()
    if "exp_avg_scale" in part:
        assert words is not None
        encode_(part["exp_avg"], part["exp_avg_scale"], mean, signed=True)
        encode_(part["exp_avg_sq"], part["exp_avg_sq_scale"], root, signed=False, chance=unit(words))
    root.div_(math.sqrt(1 - second**step)).add_(group["eps"])
    rate: float = -group["lr"] / (1 - first**step)
    return mean.div(root).mul_(rate)


def _write(
    values: Tensor,
    change: Tensor,
    group: Mapping[str, Any],
    compensation: Tensor | None,
    words: Tensor | None,
) -> None:
    """Decays and changes values, (rows, n), in place and in their dtype."""
    wanted = values.float() if compensation is None else values.float() + compensation.float()
    wanted = wanted * (1 - group["lr"] * group["weight_decay"]) + change
    if compensation is not None:
        values.copy_(wanted)
        compensation.copy_(wanted - values.float())
    elif values.dtype == torch.bfloat16:
        assert words is not None
        values.copy_(round_stochastically(wanted, words))
    else:
        values.copy_(wanted)


def _scales(parameter: Parameter) -> Tensor:
    """Zeros (rows, blocks), sharded by rows as the parameter is."""
    shape = (parameter.shape[0], blocks_of(parameter.shape))
    if not isinstance(parameter, DTensor):
        return torch.zeros(shape, dtype=torch.float32, device=parameter.device)
    return zeros(
        shape, dtype=torch.float32, device_mesh=parameter.device_mesh, placements=parameter.placements
    )
