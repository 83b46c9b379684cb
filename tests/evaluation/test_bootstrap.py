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


def test_an_undefined_statistic_has_an_undefined_interval() -> None:
    assert all(np.isnan(interval(np.full(10, np.nan))))
