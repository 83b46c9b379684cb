"""Cuts the projections of a decoder over the processes of a tensor-parallel group, as transformers plans it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    parallelize_module,
)
from typing_extensions import override

from lmmcl.errors import UserError
from lmmcl.weights import WRAPPED

KEY = "trainer.strategy: FSDP2Strategy.tensor_parallel"
"""What an error is about."""
_OUT = "Leave it out, and fsdp2 alone shards the model over all devices."


class _SumInBackward(torch.autograd.Function):
    """What it is given; its gradient is summed over a group."""

    @staticmethod
    @override
    def forward(ctx: Any, value: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return value.view_as(value)

    @staticmethod
    @override
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient, group=ctx.group)
        return gradient, None


class SummedGradient(ParallelStyle):
    """For a norm of the heads of one process (Qwen3's, Gemma 3's): whole on all, its gradient is the sum of theirs."""

    @override
    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        forward, group = module.forward, device_mesh.get_group()

        def summed(*arguments: Any, **named: Any) -> Any:
            own = dict(module._parameters)
            for name, parameter in own.items():
                if parameter is not None:
                    module._parameters[name] = _SumInBackward.apply(parameter, group)  # type: ignore[no-untyped-call]  # torch's
            try:
                return forward(*arguments, **named)
            finally:
                module._parameters.update(own)

        module.forward = summed
        return module


STYLES: Mapping[str, Callable[[], ParallelStyle]] = {
    "colwise": ColwiseParallel,
    "rowwise": RowwiseParallel,
    "colwise_gather_output": lambda: ColwiseParallel(output_layouts=Replicate()),
    "rowwise_split_input": lambda: RowwiseParallel(input_layouts=Replicate()),
    "replicated_with_grad_allreduce": SummedGradient,
}
"""transformers' names of styles; its others, for experts and latent attention, need more than linears that are cut."""

_MAKE_OUTPUTS, _TAKE_INPUTS = ("lora_B", "experts_B"), ("lora_A", "experts_A", "router")
"""Of adapters around a linear: what gives as many outputs as it, and what takes as many inputs."""

_INSIDE_MIXTURE = re.compile(rf"\.(?:{WRAPPED}|expert)(?=\.)")
"""What an MLP and its copy, in a mixture of both, have in their names."""

_CUTS_HEADS = "colwise"
"""The style whose output stays cut: between the heads, in an attention."""


def check_beside(settings: Mapping[str, Any]) -> None:
    """Refuses settings of `lmmcl.model.ContinualLMM` that FSDP2 takes, but not with tensors cut by columns.

    Raises:
        UserError: names the key.
    """
    reasons = {
        "compile": (settings["compile"], "layers that are cut do not compile where lengths change"),
        "optimizer": (
            settings["optimizer"] == "adamw_8bit",
            "adamw_8bit shares a scale among 256 numbers of a row, and rows are cut; take adamw",
        ),
    }
    for key, (given, reason) in reasons.items():
        if given:
            raise UserError(
                f"model.{key}: {settings[key]} does not go with FSDP2Strategy.tensor_parallel: {reason}. Leave one of "
                "the two out."
            )


def check_plan(model: nn.Module, size: int) -> None:
    """Refuses a tensor-parallel group that a model cannot be cut for.

    Args:
        model: of transformers, as its checkpoint has it; the meta device will do.
        size: processes of a group.

    Raises:
        UserError: there is no plan for the decoder, one with a style that is not known here, or heads or widths do not
            divide.
    """
    _planned(model, size)


def cut(model: nn.Module, mesh: DeviceMesh) -> None:
    """Cuts what the plan names in the decoder's layers, in place; the rest stays whole on every process.

    Embedding, head, norms and everything before the decoder are left to FSDP2 alone. An adapter is cut as the linear
    is that it wraps: B where the outputs are cut, A (and a router) where the inputs are.

    Args:
        model: whole, of transformers, with its adapters, on this process or on the meta device.
        mesh: of this process's tensor-parallel group.

    Raises:
        UserError: see `check_plan`; or an adapter cannot be cut.
    """
    # Every process has the same whole weights: nothing is sent.
    parallelize_module(model, mesh, _planned(model, mesh.size()), src_data_rank=None)


def _planned(model: nn.Module, size: int) -> dict[str, ParallelStyle]:
    """How each module is cut, by path: what the plan names in lists of layers inside the decoder."""
    decoder = model.get_decoder()  # type: ignore[operator]  # transformers' models are untyped
    inside = next((f"{name}." for name, module in model.named_modules() if name and module is decoder), "")
    plan: Mapping[str, str] = getattr(model, "tp_plan", None) or {}
    styles: dict[str, ParallelStyle] = {}
    for name in dict(model.named_modules()):
        generic = re.sub(r"\.\d+(?=\.|$)", ".*", _INSIDE_MIXTURE.sub("", name))
        if name.startswith(inside) and generic in plan and ".*." in generic:
            styles |= _styles_of(model, name, plan[generic], size)
    if not styles:
        raise UserError(
            f"{KEY}: transformers has no tensor-parallel plan for the decoder of {type(model).__name__}. {_OUT}"
        )
    return styles


def _styles_of(model: nn.Module, path: str, style: str, size: int) -> dict[str, ParallelStyle]:
    """By path, what is cut where the plan names one module: itself, or the parts of an adapter around it."""
    if style not in STYLES:
        raise UserError(
            f"{KEY}: lmmcl does not know the style {style}, which transformers plans for {path}. {_OUT}"
        )
    module = model.get_submodule(path)
    if STYLES[style] is SummedGradient:
        return {path: STYLES[style]()}
    inner = getattr(module, WRAPPED, module)
    if type(inner) is not nn.Linear:
        raise UserError(
            f"{KEY}: {path} is a {type(inner).__name__}, and only plain linear layers can be cut. {_OUT}"
        )
    by_column = isinstance(STYLES[style](), ColwiseParallel)
    width = inner.out_features if by_column else inner.in_features
    if width % size:
        raise _does_not_divide(f"the width of {path}", width, size)
    head = getattr(model.get_submodule(path.rpartition(".")[0]), "head_dim", None)
    if style == _CUTS_HEADS and isinstance(head, int) and (width // head) % size:
        raise _does_not_divide(f"the heads of {path}", width // head, size)
    if inner is module:
        return {path: STYLES[style]()}
    beside = [part for part in (_MAKE_OUTPUTS if by_column else _TAKE_INPUTS) if hasattr(module, part)]
    if not beside:
        raise UserError(f"{KEY}: {path} is wrapped by a {type(module).__name__}, which cannot be cut. {_OUT}")
    parts = [
        name
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear) and name.partition(".")[0] in (WRAPPED, *beside)
    ]
    return {f"{path}.{part}": STYLES[style]() for part in parts}


def _does_not_divide(what: str, number: int, size: int) -> UserError:
    return UserError(f"{KEY} must divide {what}, which is {number}; got {size}. Choose a divisor. {_OUT}")
