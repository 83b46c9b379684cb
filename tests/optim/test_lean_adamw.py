"""AdamW in less memory, against torch's."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

import lmmcl.optim.lean_adamw
from lmmcl.optim.lean_adamw import LeanAdamW

Make = Callable[[list[dict[str, Any]], Mapping[nn.Parameter, str]], Optimizer]


def plain(groups: list[dict[str, Any]], names: Mapping[nn.Parameter, str]) -> Optimizer:
    return AdamW(groups)


def lean(**options: Any) -> Make:
    return lambda groups, names: LeanAdamW(groups, names, **options)


def change(
    make: Make, steps: int, lr: float, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Optimizer, list[nn.Parameter]]:
    """What a matrix changes by under noisy gradients of one mean, the same for every optimizer; and a vector beside."""
    generator = torch.Generator().manual_seed(0)
    matrix = nn.Parameter((0.02 * torch.randn(40, 300, generator=generator)).to(dtype))
    vector = nn.Parameter(torch.zeros(40, dtype=dtype))
    groups = [
        {"params": [matrix], "lr": lr, "weight_decay": 0.1},
        {"params": [vector], "lr": lr, "weight_decay": 0.0},
    ]
    optimizer = make(groups, {matrix: "matrix", vector: "vector"})
    before, mean = matrix.detach().float().clone(), torch.randn(40, 300, generator=generator)
    for _ in range(steps):
        matrix.grad = (0.3 * mean + torch.randn(40, 300, generator=generator)).to(dtype)
        vector.grad = torch.randn(40, generator=generator).to(dtype)
        optimizer.step()
    return matrix.detach().float() - before, optimizer, [matrix, vector]


def state_bytes(optimizer: Optimizer) -> int:
    tensors = [t for state in optimizer.state.values() for name, t in state.items() if name != "step"]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def alike(found: Tensor, expected: Tensor) -> tuple[float, float]:
    """Cosine, and ratio of the norms."""
    cosine = torch.nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0)
    return float(cosine), float(found.norm() / expected.norm())


@pytest.mark.parametrize("moments", ["fp32", "offloaded"])
@pytest.mark.parametrize("at_once", [1 << 22, 1000])
def test_in_fp32_it_is_torchs_adamw(moments: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmmcl.optim.lean_adamw, "_AT_ONCE", at_once)
    expected, _, (_, vector) = change(plain, 10, 1e-2)
    found, _, (_, other) = change(lean(moments=moments), 10, 1e-2)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(other, vector, rtol=1e-5, atol=1e-7)


def test_moments_in_8_bits_follow_those_in_fp32_in_a_quarter_of_the_memory() -> None:
    expected, full, _ = change(plain, 200, 1e-3)
    found, lean_one, _ = change(lean(moments="8bit"), 200, 1e-3)
    assert alike(found, expected) == pytest.approx((1.0, 1.0), abs=2e-3)
    assert state_bytes(lean_one) < 0.27 * state_bytes(full)


def test_bf16_follows_fp32_masters_where_rounding_to_nearest_swallows_the_change() -> None:
    """300 steps at the study's learning rate."""
    expected, _, _ = change(plain, 300, 5e-6)
    nearest, _, _ = change(plain, 300, 5e-6, torch.bfloat16)
    cosine, norm = alike(nearest, expected)
    assert cosine < 0.3 and norm < 0.3
    kahan, _, _ = change(lean(rounding="kahan"), 300, 5e-6, torch.bfloat16)
    assert alike(kahan, expected) == pytest.approx((1.0, 1.0), abs=0.01)
    stochastic, _, _ = change(lean(rounding="stochastic"), 300, 5e-6, torch.bfloat16)
    cosine, norm = alike(stochastic, expected)
    # A weight of 0.02 lies on a grid of 1e-4, of which the whole change is a few steps: noise, but no bias.
    assert cosine > 0.85 and 0.95 < norm < 1.2
    assert float((stochastic * expected).sum() / expected.square().sum()) == pytest.approx(1.0, abs=0.02)


def test_the_random_bits_follow_from_the_seed_alone() -> None:
    runs = [change(lean(rounding="stochastic", seed=seed), 3, 5e-6, torch.bfloat16)[0] for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_what_has_no_gradient_stays() -> None:
    parameter = nn.Parameter(torch.ones(3, 3))
    optimizer = LeanAdamW([{"params": [parameter], "lr": 1.0, "weight_decay": 0.1}], {parameter: "p"})
    optimizer.step()
    assert torch.equal(parameter, torch.ones(3, 3)) and not optimizer.state[parameter]["step"]


def test_bf16_without_a_rounding_is_refused() -> None:
    parameter = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    with pytest.raises(ValueError, match="swallow"):
        LeanAdamW([{"params": [parameter], "lr": 1.0}], {parameter: "p"})
