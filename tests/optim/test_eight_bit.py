"""Codes of one byte and their scales."""

import pytest
import torch

from lmmcl.optim.eight_bit import BLOCK, blocks_of, decode, encode_, values_of

CPU = torch.device("cpu")


@pytest.mark.parametrize("signed", [True, False])
def test_the_map_has_256_rising_values_and_holds_zero_and_one(signed: bool) -> None:
    values = values_of(signed, CPU)
    assert len(values) == 256 and (values.diff() > 0).all()
    assert 0.0 in values and values[-1] == 1 and (values[0] < -0.99 if signed else values[0] == 0)


@pytest.mark.parametrize("width", [1, BLOCK, BLOCK + 7])
def test_a_number_comes_back_within_half_a_gap_of_its_block(width: int) -> None:
    numbers = torch.randn(5, width, generator=torch.Generator().manual_seed(0))
    codes = torch.zeros(5, width, dtype=torch.uint8)
    scales = torch.zeros(5, blocks_of((5, width)))
    encode_(codes, scales, numbers, signed=True)
    widest = float(values_of(True, CPU).diff().max())
    error = (decode(codes, scales, signed=True) - numbers).abs()
    assert float((error / numbers.abs().max()).max()) <= widest / 2 + 1e-6


def test_zeros_stay_zeros() -> None:
    codes, scales = torch.full((2, 3), 9, dtype=torch.uint8), torch.ones(2, 1)
    encode_(codes, scales, torch.zeros(2, 3), signed=True)
    assert not decode(codes, scales, signed=True).any()


def test_rounded_at_random_the_mean_is_right() -> None:
    numbers = torch.full((1000, 2), 0.3003)
    numbers[:, 1] = 1.0
    codes, scales = torch.zeros(1000, 2, dtype=torch.uint8), torch.zeros(1000, 1)
    chance = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0))
    encode_(codes, scales, numbers, signed=False, chance=chance)
    found = decode(codes, scales, signed=False)[:, 0]
    assert len(found.unique()) == 2
    assert float(found.mean()) == pytest.approx(0.3003, abs=3e-4)
