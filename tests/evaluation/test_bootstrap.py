"""The bootstrap against a loop over draws, and against theory."""

import numpy as np
import pytest

from lmmcl.evaluation import bootstrap
from lmmcl.evaluation.bootstrap import interval, resampled_means, resampled_scores


def scores(stages: int, n: int, seed: int = 0) -> np.ndarray:
    return 100.0 * np.random.default_rng(seed).integers(0, 2, size=(stages, n)).astype(float)


def test_means_are_those_of_the_drawn_examples() -> None:
    table = scores(3, 17)
    found = resampled_means(table, (5,), 50)
    counts = np.random.default_rng([5]).multinomial(17, np.full(17, 1 / 17), size=50)
    for draw, row in zip(counts, found, strict=True):
        chosen = np.repeat(np.arange(17), draw)
        assert len(chosen) == 17
        np.testing.assert_allclose(row, [table[k, chosen].mean() for k in range(3)], rtol=0, atol=1e-12)


def test_a_draw_is_shared_by_all_stages() -> None:
    table = np.repeat(scores(1, 40), 3, axis=0)
    found = resampled_means(table, (0,), 100)
    assert (found[:, 0] == found[:, 1]).all() and (found[:, 0] == found[:, 2]).all()
    assert found[:, 0].std() > 0


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = resampled_means(scores(2, 30), (1,), 100)
    monkeypatch.setattr(bootstrap, "_AT_ONCE", 210)
    np.testing.assert_array_equal(resampled_means(scores(2, 30), (1,), 100), whole)


def test_a_tasks_draws_do_not_depend_on_the_others() -> None:
    held = {"a": scores(2, 30, 1), "b": scores(2, 50, 2)}
    both = resampled_scores(held, ["a", "b"], 7, 200)
    assert both.shape == (200, 2, 2)
    np.testing.assert_array_equal(both[..., 1:], resampled_scores(held, ["b"], 7, 200))
    assert (both != resampled_scores(held, ["a", "b"], 8, 200)).any()


def test_the_interval_is_that_of_theory_for_a_mean() -> None:
    table = scores(1, 2000)
    low, high = interval(resampled_means(table, (0,), 4000)[:, 0])
    error = 1.96 * table.std() / np.sqrt(2000)
    assert low == pytest.approx(table.mean() - error, abs=0.1 * error)
    assert high == pytest.approx(table.mean() + error, abs=0.1 * error)


SIZES = {"a": 3, "b": 40, "c": 9}
GROUPS = [name for name, size in SIZES.items() for _ in range(size)]


def test_a_mean_over_groups_varies_as_theory_says_whatever_their_sizes() -> None:
    table = scores(1, len(GROUPS), 4)
    table[0, :3] = [0.0, 0.0, 100.0]
    found = resampled_means(table, (0,), 20000, GROUPS)[:, 0]
    parts = [table[0, [g == name for g in GROUPS]] for name in SIZES]
    assert found.mean() == pytest.approx(np.mean([part.mean() for part in parts]), abs=0.5)
    # Of a mean of independent means: the unbiased variance of each, also of the smallest.
    variance = sum(part.var(ddof=1) / len(part) for part in parts) / len(parts) ** 2
    assert found.var() == pytest.approx(variance, rel=0.05)


def test_draws_inside_groups_are_shared_by_all_stages_and_by_marks() -> None:
    table = np.repeat(scores(1, len(GROUPS)), 3, axis=0)
    found = resampled_means(table, (0,), 200, GROUPS)
    assert (found[:, 0] == found[:, 1]).all() and (found[:, 0] == found[:, 2]).all()
    one_group = resampled_means(table[:1], (5,), 200, ["all"] * len(GROUPS))
    plain = resampled_means(table[:1], (5, 0), 200)
    np.testing.assert_allclose(one_group - table[0].mean(), (plain - table[0].mean()) * (52 / 51) ** 0.5)
    marks = resampled_means(table, (0,), 4000, GROUPS, shares=1)
    np.testing.assert_array_equal(marks[:200, 0].shape, found[:, 0].shape)
    assert marks[:, 2].mean() == pytest.approx(table[0].mean(), abs=0.5)  # over examples, not over groups
    assert ((marks[:, 2] >= 0) & (marks[:, 2] <= 100)).all()


def test_every_example_right_is_right_in_every_draw() -> None:
    table = np.full((2, len(GROUPS)), 100.0)
    np.testing.assert_allclose(resampled_means(table, (0,), 50, GROUPS, shares=1), 100.0)


def test_an_undefined_statistic_has_an_undefined_interval() -> None:
    assert all(np.isnan(interval(np.full(10, np.nan))))
