"""Exactly so many values are the largest of a tensor, the same ones on any cut; shards: test_two_processes.py."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch import Tensor

from lmmcl.merge.counter import words
from lmmcl.merge.threshold import Part, kept_values, largest


def cut(values: Tensor, length: int) -> Callable[[], Iterator[Part]]:
    def parts() -> Iterator[Part]:
        for start, part in zip(range(0, len(values), length), values.split(length), strict=True):
            yield part, partial(torch.arange, start, start + len(part))

    return parts


def slow(values: Tensor, k: int) -> list[int]:
    """Positions of the k largest by a sort: of equals those with the highest words."""
    key = words(torch.arange(len(values)), "largest").tolist()
    size = values.abs().tolist()
    return sorted(sorted(range(len(values)), key=lambda i: (size[i], key[i]), reverse=True)[:k])


@pytest.mark.parametrize("length", [700, 5000])
def test_the_largest_are_those_of_a_sort_also_where_values_are_equal(length: int) -> None:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.randn(5000, generator=generator) * 1e-3
    signs = torch.randint(0, 2, (3000,), generator=generator) * 2.0 - 1
    for values in (
        smooth,
        smooth.bfloat16().float(),
        signs,
        torch.zeros(50),
        torch.tensor([3e38, 1e-42, -5.0]),
    ):
        parts = cut(values, length)
        for k in {1, 2, len(values) // 3, len(values) - 1, len(values)}:
            found = largest(parts, k, zeros=True)
            held = torch.cat([found.holds(*part) for part in parts()])
            assert held.nonzero().flatten().tolist() == slow(values, k)


def test_where_a_zero_would_be_taken_all_are_unless_it_matters() -> None:
    values = torch.tensor([0.0, 2.0, 0.0, -1.0, 0.0])
    found = largest(cut(values, 5), 3)
    assert found.holds(values, lambda: torch.arange(5)).all()
    assert int(kept_values(values, 0.6, values).sum()) == 3


def test_those_taken_of_equal_values_are_spread_over_the_tensor() -> None:
    kept = kept_values(torch.ones(100, 100), 0.25, torch.ones(100, 100)).float()
    assert float(kept.sum()) == 2500
    # five standard deviations of a count of 100 draws with probability 0.25
    for counts in (kept.sum(0), kept.sum(1)):
        assert float((counts - 25).abs().max()) < 5 * (100 * 0.25 * 0.75) ** 0.5
