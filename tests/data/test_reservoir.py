"""Reservoir sampling against its closed form, and equal shares."""

from collections import Counter
from itertools import product

import pytest

from lmmcl.data.reservoir import equal_shares, reservoir, reservoir_draws, sample


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("first", [0, 1, 3, 6])
def test_every_item_is_kept_with_probability_size_over_n_whenever_it_came(size: int, first: int) -> None:
    """Over all equally likely draws: exact, no statistics. Six items, of which ``first`` came in a task before."""
    outcomes = Counter[int]()
    draws = list(product(*(range(t) for t in range(1, 7))))
    for drawn in draws:
        before = reservoir([], 0, range(first), size, drawn[:first])
        outcomes.update(reservoir(before, first, range(first, 6), size, drawn[first:]))
    assert outcomes == dict.fromkeys(range(6), len(draws) * size // 6)


def test_the_draws_are_uniform_below_the_number_of_items_so_far() -> None:
    """Fixed keys: the same counts on every machine. 3,000 draws from six numbers: 500 each, give or take 20."""
    counts = Counter(reservoir_draws(5, 1, "uniform", key)[0] for key in range(3000))
    assert sorted(counts) == list(range(6))
    assert max(abs(count - 500) for count in counts.values()) < 80


def test_a_draw_goes_on_where_the_stream_stands() -> None:
    draws = reservoir_draws(10, 50, "key")
    assert all(0 <= drawn < t for t, drawn in enumerate(draws, 11))
    assert draws == reservoir_draws(10, 50, "key") != reservoir_draws(10, 50, "other")


def test_a_sample_is_in_order_and_without_repeats() -> None:
    found = sample(range(100), 10, "key")
    assert found == sorted(set(found)) and len(found) == 10
    assert sample(range(3), 5, "key") == [0, 1, 2]


@pytest.mark.parametrize(
    ("available", "size", "shares"),
    [
        ([9, 9, 9], 9, [3, 3, 3]),
        ([9, 9, 9], 10, [4, 3, 3]),
        ([1, 9, 9], 9, [1, 4, 4]),
        ([2, 1, 9], 12, [2, 1, 9]),
        ([2, 1, 9], 99, [2, 1, 9]),
        ([0, 5], 3, [0, 3]),
        ([], 3, []),
    ],
)
def test_shares_are_as_equal_as_what_there_is(available: list[int], size: int, shares: list[int]) -> None:
    assert equal_shares(available, size) == shares
