"""Correlation of probes with held-out change: closed forms, slow references, what the bootstrap draws."""

import math
from itertools import permutations

import numpy as np
import pytest

from lmmcl.evaluation.matrix import Cell, Matrix, Stage
from lmmcl.evaluation.probe_correlation import (
    correlate,
    held_out_changes,
    mean_ranks,
    pearson,
    probe_correlations,
    spearman,
)
from lmmcl.evaluation.probe_log import Probe, ProbeRow


def test_pearson_of_a_line_is_its_sign_and_of_an_even_function_zero() -> None:
    x = np.arange(-3.0, 4.0)
    assert pearson(x, 2 * x + 7) == pytest.approx(1) and pearson(x, 1 - x) == pytest.approx(-1)
    assert pearson(x, x**2) == pytest.approx(0, abs=1e-15)


def test_pearson_is_numpy_s_on_random_numbers_along_the_last_axis() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 5, 9))
    np.testing.assert_allclose(pearson(x, y), [np.corrcoef(a, b)[0, 1] for a, b in zip(x, y, strict=True)])


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert mean_ranks(np.array([10.0, 20.0, 20.0, 5.0])).tolist() == [2, 3.5, 3.5, 1]


def test_spearman_without_ties_is_the_closed_form_of_rank_differences() -> None:
    x = np.arange(5.0)
    for order in list(permutations(range(5)))[::7]:
        y = np.exp(np.array(order, dtype=float))
        closed = 1 - 6 * ((np.argsort(np.argsort(y)) - x) ** 2).sum() / (5 * 24)
        assert spearman(x, y) == pytest.approx(closed)


def test_spearman_sees_any_rising_function_as_one() -> None:
    x = np.array([0.1, 0.5, 2.0, 3.0])
    assert spearman(x, x**9) == pytest.approx(1) and pearson(x, x**9) < 0.99


@pytest.mark.parametrize("n", [0, 1, 3])
def test_below_four_points_there_is_no_number(n: int) -> None:
    found = correlate([(range(n), range(n))])
    assert math.isnan(found.pearson.value) and math.isnan(found.spearman.low)
    assert (found.n, found.note) == (n, "too few points")


def test_what_does_not_vary_has_no_correlation() -> None:
    found = correlate([([0.1] * 5, [1, 2, 3, 4, 5])])
    assert math.isnan(found.pearson.value) and found.note == "does not vary"


def test_points_with_a_nan_do_not_count() -> None:
    found = correlate([([1, 2, math.nan, 3, 4], [1, 2, 9, 3, 4])])
    assert found.n == 4 and found.pearson.value == pytest.approx(1)


def test_the_interval_holds_the_value_and_shrinks_with_points() -> None:
    generator = np.random.default_rng(1)

    def width(n: int) -> float:
        x = generator.normal(size=n)
        found = correlate([(x.tolist(), (x + generator.normal(size=n)).tolist())], resamples=500).pearson
        assert found.low <= found.value <= found.high
        return found.high - found.low

    assert width(400) < width(20) / 2


def test_the_interval_has_about_the_width_of_fisher_s() -> None:
    """For normal numbers atanh r has the standard error 1 / sqrt(n − 3)."""
    generator = np.random.default_rng(2)
    x = generator.normal(size=300)
    found = correlate([(x.tolist(), (0.5 * x + generator.normal(size=300)).tolist())]).pearson
    z, half = math.atanh(found.value), 1.96 / math.sqrt(297)
    assert found.low == pytest.approx(math.tanh(z - half), abs=0.04)
    assert found.high == pytest.approx(math.tanh(z + half), abs=0.04)


def test_counting_a_point_twice_is_having_it_twice() -> None:
    x, y = np.random.default_rng(3).integers(5, size=(2, 7)).astype(float)
    counts = np.array([[2.0, 1, 0, 1, 3, 0, 1], [1.0, 1, 1, 1, 1, 1, 1]])
    for row, of_values, of_ranks in zip(counts, pearson(x, y, counts), spearman(x, y, counts), strict=True):
        twice = np.repeat(x, row.astype(int)), np.repeat(y, row.astype(int))
        assert of_values == pytest.approx(float(pearson(*twice)))
        assert of_ranks == pytest.approx(float(spearman(*twice)))


def test_over_several_runs_whole_runs_are_what_varies() -> None:
    """Copies of one run are no further evidence: without one of them the number is the same."""
    one = ([1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 3.0, 2.0, 5.0, 4.0])
    found = correlate([one] * 3)
    assert (found.n, found.runs) == (15, 3)
    assert found.pearson.low == pytest.approx(found.pearson.value) == pytest.approx(found.pearson.high)
    alone = correlate([one]).pearson
    assert alone.value == pytest.approx(found.pearson.value) and alone.low < alone.value < alone.high


@pytest.mark.parametrize("runs", [2, 3, 8])
@pytest.mark.parametrize("apart", [0.0, 0.7])
def test_the_interval_over_runs_holds_the_true_correlation_in_95_of_100_cases(
    runs: int, apart: float
) -> None:
    """Runs whose means differ or not; within and between them the correlation is one half."""
    generator = np.random.default_rng(4)
    held = 0
    for _ in range(300):
        means, noise = generator.normal(size=(2, runs, 1)), generator.normal(size=(2, runs, 5))
        x = apart * means[0] + noise[0]
        y = 0.5 * x + math.sqrt(0.75) * (apart * means[1] + noise[1])
        found = correlate(list(zip(x.tolist(), y.tolist(), strict=True)))
        held += found.pearson.low <= 0.5 <= found.pearson.high
        assert found.pearson.low <= found.pearson.value <= found.pearson.high
    assert held / 300 >= 0.92


def test_two_short_runs_have_a_number_and_no_interval() -> None:
    found = correlate([([1, 2], [1, 3]), ([1, 4], [2, 2.5])])
    assert found.n == 4 and not math.isnan(found.pearson.value) and math.isnan(found.pearson.low)
    assert found.note == "no interval: not defined without one of the runs"
    one_varies = correlate([([1.0] * 5, [1.0, 3.0, 2.0, 4.0, 5.0]), ([1, 2, 3, 4], [1, 3, 4, 2])])
    assert not math.isnan(one_varies.pearson.value) and math.isnan(one_varies.pearson.low)


def matrix(changes: list[float]) -> Matrix:
    stages = [
        Stage(k, f"{k:02d}", cells={"held": Cell(50 + change, 10), "other": Cell(50 + change, 10)})
        for k, change in enumerate(changes)
    ]
    return Matrix([f"t{k}" for k in range(1, len(changes))], ["held", "other"], stages)


def probe(values: list[float]) -> Probe:
    rows = [ProbeRow(k, f"{k:02d}", k, "stage", {"up": v, "flat": 0.0}) for k, v in enumerate(values)]
    inside = ProbeRow(1, "01", 1, "step", {"up": 99.0})
    return Probe("bias", "Bias", "", "", "", (*rows[:1], inside, *rows[1:]))


def test_held_out_changes_are_those_of_the_matrix() -> None:
    assert held_out_changes(matrix([0, -4, -10])) == {0: 0, 1: -4, 2: -10}
    assert held_out_changes(Matrix(["a"], [])) == {}


def test_readings_at_stages_meet_the_changes_of_those_stages_without_the_base_model() -> None:
    changes = held_out_changes(matrix([0, -1, -2, -3, -4]))
    found = {one.series: one.correlation for one in probe_correlations([([probe([9, 1, 2, 3, 4])], changes)])}
    assert found["up"].n == 4 and found["up"].pearson.value == pytest.approx(-1)
    assert found["flat"].note == "does not vary"


def test_the_same_series_of_several_runs_are_taken_together() -> None:
    changes = held_out_changes(matrix([0, -1, -2]))
    runs = [([probe([0, 1, 2])], changes), ([probe([0, 2, 4])], changes), ([], changes)]
    found = next(one for one in probe_correlations(runs) if one.series == "up")
    assert (found.probe, found.correlation.n, found.correlation.runs) == ("bias", 4, 2)
