"""Frozen linear layers in 8 or 4 bits: what nobody trains takes a half or a quarter of its memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from typing_extensions import override

from lmmcl.errors import UserError
from lmmcl.weights import WRAPPED

BLOCK = 64
"""Weights of a row that share a scale in fp32, which makes 8.5 or 4.5 bits of a weight."""
_AT_ONCE = 1 << 24
_NORMAL = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
    *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
    *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941),
    *(0.7229568362236023, 1.0),
)
"""The 16 values of NF4, even shares of a normal distribution (Dettmers et al., 2023, arXiv 2305.14314, appendix E)."""


@torch.no_grad()
def packed(weight: Tensor, bits: int) -> Tensor:
    """A matrix (out, in) as bytes (out, in · bits / 8 + 4 · blocks): the codes of a row, then its scales.

    Codes are whole 127ths of the largest magnitude of a block, or NF4's values. Codes and scales in one tensor of bytes
    are checked, moved and shared among processes as any frozen tensor is.

    Args:
        weight: of any floating dtype; in is a multiple of `BLOCK`.
        bits: 8 or 4.
    """
    rows, width = weight.shape
    blocks = weight.float().view(rows, -1, BLOCK)
    scales = blocks.abs().amax(dim=-1)
    unit = blocks / scales.clamp(min=torch.finfo(torch.float32).tiny)[:, :, None]
    if bits == 8:
        codes = (unit * 127).round().to(torch.int8).view(rows, width).view(torch.uint8)
    else:
        values = _normal(weight.device)
        nearest = torch.bucketize(unit, (values[1:] + values[:-1]) / 2, out_int32=True).to(torch.uint8)
        pairs = nearest.view(rows, -1, 2)
        codes = pairs[..., 0] << 4 | pairs[..., 1]
    return torch.cat([codes, scales.view(torch.uint8).view(rows, -1)], dim=1)


def unpacked(held: Tensor, bits: int, width: int, dtype: torch.dtype) -> Tensor:
    """The matrix (out, in) that bytes stand for, a part at a time in fp32 and rounded to ``dtype``."""
    found = torch.empty(len(held), width, dtype=dtype, device=held.device)
    rows, bytes_of_codes = max(1, _AT_ONCE // width), width * bits // 8
    for start in range(0, len(held), rows):
        part = held[start : start + rows]
        codes = part[:, :bytes_of_codes]
        scales = part[:, bytes_of_codes:].contiguous().view(torch.float32)
        if bits == 8:
            values = codes.view(torch.int8).float() / 127
        else:
            values = _normal(held.device)[torch.stack([codes >> 4, codes & 15], dim=-1).int()]
        found[start : start + rows] = (values.reshape(len(part), -1, BLOCK) * scales[:, :, None]).flatten(1)
    return found


@cache
def _normal(device: torch.device) -> Tensor:
    return torch.tensor(_NORMAL, device=device)


class _Product(torch.autograd.Function):
    """x W^T + b, with W made for the time of a product, forward and backward."""

    @staticmethod
    @override
    def forward(ctx: Any, given: Tensor, held: Tensor, bias: Tensor | None, bits: int) -> Tensor:
        kind = given.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else given.dtype
        ctx.save_for_backward(held)
        ctx.bits, ctx.given = bits, (given.shape[-1], given.dtype)
        weight = unpacked(held, bits, given.shape[-1], dtype)
        return functional.linear(given.to(dtype), weight, None if bias is None else bias.to(dtype))

    @staticmethod
    @override
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor | None, ...]:
        (held,) = ctx.saved_tensors
        width, dtype = ctx.given
        return (slopes @ unpacked(held, ctx.bits, width, slopes.dtype)).to(dtype), None, None, None


class FrozenLinear(nn.Linear):
    """A linear layer whose weight is held as bytes (`packed`); the gradient passes it, and it takes none.

    Attributes:
        bits: 8 or 4.
    """

    bits: int

    @override
    def forward(self, input: Tensor) -> Tensor:
        """(..., in) to (..., out), in the dtype of autocast or of the input."""
        return _Product.apply(input, self.weight, self.bias, self.bits)  # type: ignore[no-any-return, no-untyped-call]  # torch's apply is untyped


def hold_in_bits(
    model: nn.Module, paths: Iterable[str], own: Collection[str], trained: Collection[str], bits: int
) -> None:
    """Turns linear layers that nobody trains into frozen ones of 8 or 4 bits, in place.

    Args:
        model: with its adapters.
        paths: of the decoder layers.
        own: names of the checkpoint's parameters: adapters stay as they are.
        trained: names of what any task of the sequence trains.
        bits: 8 or 4.

    Raises:
        UserError: there is none.
    """
    count = 0
    for path in paths:
        for inner, module in model.get_submodule(path).named_modules():
            name = f"{path}.{inner}".replace(f".{WRAPPED}", "")
            tensors = {f"{name}.{leaf}" for leaf, _ in module.named_parameters(recurse=False)}
            if type(module) is not nn.Linear or not tensors <= set(own) or tensors & set(trained):
                continue
            if module.in_features % BLOCK:
                continue
            module.__class__ = FrozenLinear
            assert isinstance(module, FrozenLinear)
            module.bits = bits
            module.weight = nn.Parameter(packed(module.weight, bits), requires_grad=False)
            count += 1
    if not count:
        raise UserError(
            f"model.frozen_bits: {bits} holds frozen linear layers of the decoder, and there is none (whose width is a "
            f"multiple of {BLOCK}): every one trains. Leave it out, train fewer (model.recipe), or adapters (LoRA)."
        )
