"""Schedules and parameter groups."""

import pytest
import torch
from torch import nn

from lmmcl.errors import UserError
from lmmcl.optim.optimizer import adamw, constant, cosine


def test_the_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    factor = cosine(warmup=3, total=13)
    assert [factor(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert factor(8) == pytest.approx(0.5)
    assert factor(13) == 0.0


def test_a_constant_schedule_only_warms_up() -> None:
    assert [constant(1, 9)(step) for step in (0, 1, 8)] == [0.5, 1.0, 1.0]


def test_groups_follow_rate_and_decay_and_vectors_never_decay() -> None:
    parameters = {
        "w": nn.Parameter(torch.ones(2, 2)),
        "b": nn.Parameter(torch.ones(2)),
        "v": nn.Parameter(torch.ones(2, 2)),
    }
    optimizer = adamw(parameters, {"w": 1e-3, "b": 1e-3, "v": 1e-4}, 0.1, (0.9, 0.99))
    found = [(group["lr"], group["weight_decay"], len(group["params"])) for group in optimizer.param_groups]
    assert found == [(1e-3, 0.1, 1), (1e-3, 0.0, 1), (1e-4, 0.1, 1)]


def test_an_optimizer_of_nothing_is_an_error() -> None:
    with pytest.raises(UserError, match=r"model.recipe: nothing trains"):
        adamw({}, {}, 0.0, (0.9, 0.999))
