"""The tensors that train, in the dtype that they train in."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from lmmcl.errors import UserError
from lmmcl.weights import parameters_of


def hold_masters(
    model: nn.Module, trained: Iterable[str], full_precision: bool, dtype: torch.dtype = torch.float32
) -> None:
    """Brings the tensors that train to their dtype; frozen ones keep the checkpoint's unless all is fp32."""
    names = set(trained)
    for name, parameter in parameters_of(model).items():
        if full_precision or name in names:
            parameter.data = parameter.data.to(dtype)


def check_bf16(model: nn.Module, names: Iterable[str], path: str) -> None:
    """Refuses to train in bf16 what the checkpoint holds in more: it would begin with other weights.

    Args:
        model: as it was loaded.
        names: of the checkpoint's own tensors that train.
        path: of the checkpoint.

    Raises:
        UserError: one is not in bf16.
    """
    parameters = parameters_of(model)
    for name in names:
        if parameters[name].dtype != torch.bfloat16:
            held = str(parameters[name].dtype).removeprefix("torch.")
            raise UserError(
                f"model.train_dtype: bf16 needs a checkpoint in bf16, and {path} holds {name} in {held}. Train it in "
                "fp32, or convert the checkpoint."
            )
