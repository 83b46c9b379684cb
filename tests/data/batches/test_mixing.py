"""The mixture of an epoch: how many rows of each set, and how evenly what is trained holds them."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from lmmcl.data.batches.mixing import MixedRows, interleaved, mix, mixed_counts, mixed_windows
from lmmcl.data.batches.order import draw
from lmmcl.data.row import Row
from tests.data.processors import simple


def rows(name: str, count: int) -> list[Row]:
    return [simple(f"{name}{i}", "where " * (i % 7), "end") for i in range(count)]


def plan(
    mixed: MixedRows, size: int, epoch: int = 0, grouped: bool = True, **options: bool
) -> list[list[int]]:
    lengths = [int(word % 97) for word in draw(len(mixed), "lengths")]
    return mixed_windows(mixed, lengths, size, 0, 0, epoch, group_by_length=grouped, **options)


@pytest.mark.parametrize("own", [1, 7, 40, 333])
@pytest.mark.parametrize("other", [1, 13, 40, 500])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.7])
def test_both_are_used_up_at_the_ratio_and_only_one_of_them_begins_again(
    own: int, other: int, ratio: float
) -> None:
    a, b = mixed_counts(own, other, ratio)
    assert a >= own and b >= other and (a == own or b == other)
    assert abs(b - ratio * (a + b)) <= 0.5 or b == 1  # right to half a row; one row is the least there is


def test_equal_sets_at_one_half_are_each_seen_once() -> None:
    mixed = mix(rows("a", 20), rows("b", 20), 0.5, None, 0)
    assert Counter(row.id[0] for row in mixed) == {"a": 20, "b": 20}
    assert len({row.id for row in mixed}) == 40


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize(
    ("own", "other", "ratio"), [(90, 20, 0.5), (20, 90, 0.5), (100, 30, 0.3), (64, 9, 0.7)]
)
@pytest.mark.parametrize("size", [4, 7, 32])
def test_every_sample_is_seen_and_every_run_of_steps_from_the_start_holds_the_ratio(
    own: int, other: int, ratio: float, size: int, grouped: bool
) -> None:
    mixed = mix(rows("a", own), rows("b", other), ratio, None, 0)
    windows = plan(mixed, size, grouped=grouped)
    assert sorted(place for window in windows for place in window) == list(range(len(mixed)))
    assert {row.id for row in mixed} == {row.id for row in [*rows("a", own), *rows("b", other)]}
    share = float(np.mean(mixed.streams == 1))
    assert share == pytest.approx(ratio, abs=0.5 / len(mixed) + 1e-9)
    seen = general = 0
    for window in windows[:-1]:
        assert len(window) == size
        general += sum(int(mixed.streams[place]) for place in window)
        seen += size
        assert abs(general - share * seen) <= 1


def test_repeated_rows_are_as_often_as_can_be_and_come_turn_by_turn() -> None:
    mixed = mix(rows("a", 50), rows("b", 20), 0.5, None, 0)
    order = [mixed[place].id for window in plan(mixed, 5, grouped=False) for place in window]
    general = [name for name in order if name[0] == "b"]
    assert len(set(general[:20])) == len(set(general[20:40])) == 20
    assert sorted(Counter(general).values()) == [2] * 10 + [3] * 10


def test_a_limit_takes_a_draw_that_depends_on_the_key() -> None:
    first, again, second = (mix(rows("a", 10), rows("b", 500), 0.5, 10, 0, key) for key in "xxy")
    ids = [{row.id for row in mixed if row.id[0] == "b"} for mixed in (first, again, second)]
    assert len(ids[0]) == 10 and ids[0] == ids[1] != ids[2]


def test_grouped_windows_hold_like_lengths_of_each_stream() -> None:
    mixed = mix(rows("a", 400), rows("b", 400), 0.5, None, 0)
    lengths = np.array([int(word % 97) for word in draw(len(mixed), "lengths")])

    def spread(windows: Sequence[Sequence[int]]) -> float:
        return float(np.mean([np.ptp(lengths[window]) for window in windows]))

    assert spread(plan(mixed, 8)) < spread(plan(mixed, 8, grouped=False)) / 2
    assert all(list(lengths[w]) == sorted(lengths[w], reverse=True) for w in plan(mixed, 8))


def test_epochs_differ_and_drop_last_leaves_out_only_the_short_window() -> None:
    mixed = mix(rows("a", 21), rows("b", 21), 0.5, None, 0)
    for grouped in (True, False):
        whole = plan(mixed, 8, grouped=grouped)
        assert plan(mixed, 8, grouped=grouped, drop_last=True) == whole[:-1]
        assert plan(mixed, 8, epoch=1, grouped=grouped) != whole == plan(mixed, 8, grouped=grouped)


def test_a_mixture_of_a_mixture_keeps_the_shares_of_both() -> None:
    inner = mix(rows("a", 30), rows("b", 30), 0.5, None, 0)
    mixed = mix(inner, rows("c", 120), 0.5, None, 0)
    assert Counter(row.id[0] for row in mixed) == {"a": 60, "b": 60, "c": 120}
    for window in plan(mixed, 8):
        assert Counter(mixed[place].id[0] for place in window) == {"a": 2, "b": 2, "c": 4}


@pytest.mark.parametrize("counts", [[3, 3], [10, 1], [7, 5], [1, 0], [64, 37]])
def test_two_streams_are_spread_to_within_one_row_everywhere(counts: list[int]) -> None:
    slots = interleaved(counts)
    assert np.bincount(slots, minlength=2).tolist() == counts
    ideal = np.arange(1, len(slots) + 1) * counts[1] / sum(counts)
    assert float(np.abs(np.cumsum(slots == 1) - ideal).max()) <= 1


def test_mixed_rows_are_a_sequence() -> None:
    mixed = mix(rows("a", 3), rows("b", 3), 0.5, None, 0)
    assert [row.id for row in mixed[:2]] == [mixed[0].id, mixed[1].id]
    assert MixedRows.of(mixed) is mixed
    plain = rows("a", 3)
    assert list(MixedRows.of(plain)) == plain
