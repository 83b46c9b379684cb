"""Each comparison and choice is torch's, bit by bit, also of values that are no numbers."""

import pytest
import torch
from torch import Tensor

from lmmcl.merge.counter import happens, words
from lmmcl.merge.lanes import above, at_least, chosen, count, equal, kept, magnitude_bits, places

ODD = [0.0, -0.0, float("nan"), float("inf"), float("-inf"), 1e-42, 1.0, -1.0]


def same_bits(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.view(torch.uint8), other.view(torch.uint8))


def pairs(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Every odd value beside every other, and more than fill a vector register."""
    odd = torch.tensor(ODD, dtype=dtype)
    return odd.repeat(19), odd.repeat_interleave(19)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_choice_moves_bits_and_computes_nothing(dtype: torch.dtype) -> None:
    one, other = pairs(dtype)
    mask = torch.arange(len(one)) % 3 == 0
    assert same_bits(chosen(mask, one, other), torch.where(mask, one, other))
    assert same_bits(kept(mask, one), torch.where(mask, one, torch.zeros((), dtype=dtype)))
    assert count(mask) == int(mask.sum())
    assert torch.equal(places(mask), mask.nonzero().squeeze(1))


def test_a_comparison_is_torchs() -> None:
    one, other = pairs(torch.float32)
    assert torch.equal(equal(one, other), one == other)
    for limit in ODD:
        assert torch.equal(equal(one, limit), one == limit)
        assert torch.equal(above(one, limit), one > limit)
        assert torch.equal(at_least(one, limit), one >= limit)


def test_bits_are_ordered_as_magnitudes_are() -> None:
    values = torch.tensor([0.0, -1e-42, 1e-30, -0.5, 2.0, float("-inf")])
    assert (magnitude_bits(values)[1:] > magnitude_bits(values)[:-1]).all()
    assert (magnitude_bits(-values) == magnitude_bits(values)).all()


@pytest.mark.parametrize("probability", [0.0, 0.3, 1 - 2**-32, 1.0])
def test_events_are_those_of_the_words(probability: float) -> None:
    positions = torch.cat([torch.arange(70_000), torch.tensor([2**40, 2**62])])
    high = (words(positions, 3, "w") >> 32) & (2**32 - 1)
    assert torch.equal(happens(positions, probability, 3, "w"), high < round(probability * 2**32))
