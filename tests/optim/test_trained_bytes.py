"""The bytes that are foretold of a trained parameter are those that an optimizer of these settings holds."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from lmmcl.optim.optimizer import optimizer_of
from lmmcl.optim.trained_bytes import OPTIMIZERS, TrainedBytes, rounding_of

HELD: list[dict[str, Any]] = [
    {"train_dtype": "fp32", "rounding": None},
    {"train_dtype": "bf16", "rounding": None},
    {"train_dtype": "bf16", "rounding": "stochastic"},
]
WAYS = [{"optimizer": optimizer, **held} for optimizer, held in product(OPTIMIZERS, HELD)]


@pytest.mark.parametrize("settings", WAYS, ids=str)
def test_what_is_foretold_is_what_is_held(settings: dict[str, Any]) -> None:
    dtype = torch.float32 if settings["train_dtype"] == "fp32" else torch.bfloat16
    parameter = nn.Parameter(torch.zeros(8, 512, dtype=dtype))
    parameter.grad = torch.zeros_like(parameter)
    every = {**settings, "weight_decay": 0.0, "betas": (0.9, 0.999), "seed": 0}
    optimizer = optimizer_of(every, {"w": parameter}, {"w": 1e-3}, "task")
    optimizer.step()
    each = TrainedBytes.of(settings)
    count = parameter.numel()
    held = {
        name: t.numel() * t.element_size() / count
        for name, t in optimizer.state[parameter].items()
        if name != "step"
    }
    assert sum(held.values()) == pytest.approx(each.saved)
    offloaded = settings["optimizer"] == "adamw_offload"
    assert each.host == (held["exp_avg"] + held["exp_avg_sq"] if offloaded else 0)
    assert (each.weight, each.gradient) == (parameter.element_size(), parameter.grad.element_size())


def test_bf16_is_rounded_as_asked_and_by_kahan_otherwise() -> None:
    assert rounding_of({"train_dtype": "fp32", "rounding": None}) is None
    assert rounding_of({"train_dtype": "bf16", "rounding": None}) == "kahan"
    assert rounding_of({"train_dtype": "bf16", "rounding": "stochastic"}) == "stochastic"
