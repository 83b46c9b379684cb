"""Frozen linear layers in 8 or 4 bits, against the same layers with the weights that they stand for."""

import pytest
import torch
from torch import nn

import lmmcl.building.frozen_linear
from lmmcl.building.frozen_linear import BLOCK, FrozenLinear, hold_in_bits, packed, unpacked

WIDTH = 3 * BLOCK


def weight(rows: int = 5) -> torch.Tensor:
    return 0.02 * torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("bits", "error"), [(8, 0.007), (4, 0.11)])
def test_a_weight_comes_back_with_the_error_of_its_bits_in_a_part_of_the_memory(
    bits: int, error: float
) -> None:
    held = packed(weight(), bits)
    assert held.dtype == torch.uint8 and held.numel() == 5 * (WIDTH * bits // 8 + 4 * 3)
    found = unpacked(held, bits, WIDTH, torch.float32)
    assert float((found - weight()).norm() / weight().norm()) < error
    largest = weight().view(-1, BLOCK).abs().argmax(dim=1)
    rows = torch.arange(len(largest))
    torch.testing.assert_close(
        found.view(-1, BLOCK)[rows, largest].abs(), weight().view(-1, BLOCK)[rows, largest].abs()
    )


@pytest.mark.parametrize("bits", [8, 4])
def test_packed_again_it_is_the_same_and_zeros_are_zeros(bits: int) -> None:
    held = packed(weight(), bits)
    assert torch.equal(packed(unpacked(held, bits, WIDTH, torch.float32), bits), held)
    assert not unpacked(packed(torch.zeros(2, BLOCK), bits), bits, BLOCK, torch.float32).any()


@pytest.mark.parametrize("bf16", [False, True])
def test_it_is_the_linear_of_what_it_stands_for_forward_and_backward(
    bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmmcl.building.frozen_linear, "_AT_ONCE", 2 * WIDTH)
    model = nn.ModuleDict({"layer": nn.ModuleDict({"linear": nn.Linear(WIDTH, 5)})})
    linear = model.get_submodule("layer.linear")
    assert isinstance(linear, nn.Linear)
    plain = nn.Linear(WIDTH, 5)
    hold_in_bits(model, ["layer"], {"layer.linear.weight", "layer.linear.bias"}, (), 4)
    assert isinstance(linear, FrozenLinear) and not linear.weight.requires_grad
    plain.weight.data, plain.bias.data = unpacked(linear.weight, 4, WIDTH, torch.float32), linear.bias.data
    given = torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(1)).requires_grad_()
    found = []
    for module in (linear, plain):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            made = module(given)
        (slope,) = torch.autograd.grad(made.float().square().sum(), given)
        found.append((made, slope))
    assert found[0][0].dtype == (torch.bfloat16 if bf16 else torch.float32)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_what_trains_and_what_was_added_stay_as_they_are() -> None:
    layers = nn.ModuleDict(
        {name: nn.Linear(BLOCK, BLOCK, bias=False) for name in ("frozen", "trained", "added")}
    )
    model = nn.ModuleDict({"layers": layers})
    own = {"layers.frozen.weight", "layers.trained.weight"}
    hold_in_bits(model, ["layers"], own, {"layers.trained.weight"}, 8)
    kinds = {name: type(layer) for name, layer in layers.items()}
    assert kinds == {"frozen": FrozenLinear, "trained": nn.Linear, "added": nn.Linear}
