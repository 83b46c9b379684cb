"""The order of an epoch: every row once, from counters, windows of like length."""

import numpy as np
import pytest

from lmmcl.data.batches.order import deal, draw, subset, windows

LENGTHS = [int(word % 97) for word in draw(203, "lengths")]


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("batch_size", [1, 7, 32, 203, 500])
def test_every_row_stands_in_one_window(batch_size: int, grouped: bool) -> None:
    plan = windows(LENGTHS, batch_size, 0, 0, 0, group_by_length=grouped)
    assert sorted(row for window in plan for row in window) == list(range(203))
    assert [len(window) for window in plan[:-1]] == [batch_size] * (len(plan) - 1)
    assert len(plan[-1]) == 203 % batch_size or batch_size


def test_drop_last_leaves_out_only_the_short_window() -> None:
    assert windows(LENGTHS, 32, 0, 0, 0, drop_last=True) == windows(LENGTHS, 32, 0, 0, 0)[:-1]


def test_drop_last_keeps_full_windows() -> None:
    assert len(windows([1] * 64, 32, 0, 0, 0, drop_last=True)) == 2


def test_seed_task_and_epoch_each_change_the_order_and_nothing_else_does() -> None:
    orders = [windows(LENGTHS, 32, *key) for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]]
    assert len({str(order) for order in orders}) == 4
    np.random.seed(1)
    assert windows(LENGTHS, 32, 0, 0, 0) == orders[0]


def test_the_draw_is_the_same_on_every_machine() -> None:
    """A recorded value: a change of it silently changes every run that is resumed."""
    assert draw(2, 0, 1, 2, "order").tolist() == [5180081684003954364, 17615092046220848899]


def test_grouped_windows_hold_rows_of_like_length() -> None:
    def spread(plan: list[list[int]]) -> float:
        return float(np.mean([np.ptp([LENGTHS[row] for row in window]) for window in plan]))

    assert (
        spread(windows(LENGTHS, 8, 0, 0, 0)) < spread(windows(LENGTHS, 8, 0, 0, 0, group_by_length=False)) / 2
    )


def test_grouped_windows_do_not_come_in_order_of_length() -> None:
    means = [np.mean([LENGTHS[row] for row in window]) for window in windows(LENGTHS, 8, 0, 0, 0)[:-1]]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.6


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 5, 12, 13])
def test_a_window_is_dealt_whole_and_evenly(world: int, accumulate: int, size: int) -> None:
    window = list(range(100, 100 + size))
    dealt = [deal(window, rank, world, accumulate) for rank in range(world)]
    pieces = [piece for mine in dealt for piece in mine]
    assert all(len(mine) == accumulate for mine in dealt)
    assert sorted(row for piece in pieces for row in piece) == window
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1


def test_a_subset_is_fixed_sorted_and_keeps_the_shares_of_its_strata() -> None:
    strata = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    chosen = subset(strata, 20, "task", "test")
    assert chosen == sorted(set(chosen)) == subset(strata, 20, "task", "test")
    assert [sum(strata[position] == name for position in chosen) for name in "abc"] == [12, 6, 2]
    assert chosen != subset(strata, 20, "task", "dev")


def test_a_subset_has_its_size_where_shares_do_not_divide() -> None:
    assert len(subset(["a"] * 3 + ["b"] * 3 + ["c"] * 3, 4, 0)) == 4
    assert subset(["a", "b"], 5, 0) == [0, 1]
