"""Means and intervals over runs against slow references, closed forms and simulated coverage."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lmmcl.errors import UserError
from lmmcl.evaluation.across_runs import SEEDS_AND_ORDERS, RunSet, freedom, mean_interval, pareto_front
from lmmcl.evaluation.result import Example, TaskResult
from lmmcl.evaluation.student_t import quantile
from lmmcl.evaluation.summary import summarise
from tests.evaluation.many_runs import HELD_OUT, TARGETS, run


def test_one_run_has_the_numbers_and_intervals_of_its_summary() -> None:
    one = run()
    stages = [
        {
            task: TaskResult(
                task, [Example(i, "", "", s / 100) for i, s in zip(one.ids[task], scores[k], strict=True)]
            )
            for task, scores in one.scores.items()
        }
        for k in range(4)
    ]
    summary = summarise(stages, TARGETS, HELD_OUT, resamples=300)
    found = RunSet([one], resamples=300).across()
    for name, number in found.items():
        assert (number.n, number.kind, number.over_runs) == (1, "examples", None)
        assert (number.value, number.low, number.high) == pytest.approx(
            (summary[name].value, summary[name].low, summary[name].high), abs=1e-9
        )


def test_the_interval_over_runs_is_students() -> None:
    found = RunSet([run(seed) for seed in range(4)], resamples=200).across()["held_out_change"]
    assert found.value == pytest.approx(np.mean(found.values))
    error = np.std(found.values, ddof=1) / 2
    assert found.over_runs == pytest.approx(
        (found.value - 3.18245 * error, found.value + 3.18245 * error), rel=1e-4
    )
    assert found.spread == pytest.approx(2 * error)
    assert (found.n, found.kind) == (4, "runs and examples")


def test_the_interval_is_that_of_both_variances() -> None:
    runs = RunSet([run(seed) for seed in range(3)], resamples=500)
    found = runs.across()["target_overall"]
    a = np.var(found.values, ddof=1) / 3
    b = np.var(sum(draws["target_overall"] for draws in runs.draws) / 3)
    reach = quantile(2 * ((a + b) / a) ** 2) * math.sqrt(a + b)
    assert (found.low, found.high) == pytest.approx((found.value - reach, found.value + reach))
    assert found.low < found.over_examples[0] < found.over_examples[1] < found.high


def test_examples_are_drawn_alike_for_all_runs() -> None:
    again = replace(run(0), settings={**run(0).settings, "seed": 1})  # another seed that did the same
    same = RunSet([run(0), again], resamples=100)
    other = RunSet([run(0), run(1)], resamples=100)
    for name, draws in same.draws[0].items():
        np.testing.assert_array_equal(draws, same.draws[1][name])
        np.testing.assert_allclose(draws, other.draws[0][name], atol=1e-9)
    equal = same.across()["target_learning"]
    assert equal.spread == 0.0
    # No variance over runs: what is left is that of the examples, and the normal's quantile.
    deviation = np.std(same.draws[0]["target_learning"])
    assert equal.high - equal.value == pytest.approx(1.95996 * deviation, rel=1e-4)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Two-way: a run's effect, an example's effect, and noise of each cell; three runs, as one can afford."""
    generator = np.random.default_rng(0)
    trials, runs, examples = 600, 3, 60
    table = (
        generator.normal(size=(trials, runs, 1)) * 0.5
        + generator.normal(size=(trials, 1, examples)) * 3.0
        + generator.normal(size=(trials, runs, examples)) * 2.0
    )
    covered, of_runs_alone, of_percentiles = 0, 0, 0
    for one in table:
        means = one.mean(axis=1)
        a, b = (
            means.var(ddof=1) / runs,
            one.mean(axis=0).var() / examples,
        )  # b: the bootstrap's, in closed form
        low, high = mean_interval(float(means.mean()), float(a), float(b), runs)
        covered += low <= 0 <= high
        low, high = mean_interval(float(means.mean()), float(a), 0.0, runs)
        of_runs_alone += low <= 0 <= high
        of_percentiles += means.min() <= 0 <= means.max()
    assert 0.94 <= covered / trials <= 0.985
    assert of_runs_alone / trials < 0.93
    assert of_percentiles / trials < 0.85  # the widest that a percentile bootstrap of three runs can get


def test_degrees_of_freedom_have_their_limits() -> None:
    assert freedom(2.0, 0.0, 5) == 4
    assert freedom(2.0, 2.0, 5) == 16
    assert math.isinf(freedom(0.0, 1.0, 3))
    assert mean_interval(1.0, 0.0, 0.0, 3) == (1.0, 1.0)
    assert all(math.isnan(end) for end in mean_interval(math.nan, 1.0, 1.0, 3))


def test_runs_are_grouped_by_what_differs() -> None:
    runs = [run(seed, recipe) for recipe in ("full", "sa_proj") for seed in (0, 1)]
    runs += [run(0, "full", order=["c", "a", "b"])]
    groups = RunSet(runs, resamples=50).groups()
    assert [group.members for group in groups] == [(0, 1), (2, 3), (4,)]
    assert [group.label for group in groups] == [
        "order=a+b+c, recipe=full",
        "order=a+b+c, recipe=sa_proj",
        "order=c+a+b, recipe=full",
    ]
    assert groups[1].settings == {"order": ["a", "b", "c"], "model.recipe": "sa_proj"}
    over_orders = RunSet(runs, resamples=50).groups(SEEDS_AND_ORDERS)
    assert [(group.label, group.members) for group in over_orders] == [
        ("recipe=full", (0, 1, 4)),
        ("recipe=sa_proj", (2, 3)),
    ]
    assert over_orders[0].numbers["target_learning"].n == 3
    assert RunSet(runs[:2], resamples=50).groups()[0].label == ""


def test_a_copy_of_a_run_is_no_other_seed() -> None:
    copied = replace(run(0), run=Path("runs/copied"))
    runs = RunSet([run(0), run(1), copied, run(0, order=["c", "a", "b"])], resamples=20)
    for over in (runs.across, runs.groups):
        with pytest.raises(UserError, match="runs/full-0 and runs/copied are one run"):
            over()
    assert runs.across([0, 1, 3])["target_learning"].n == 3
    assert runs.across([2])["target_learning"].n == 1


def test_the_front_is_what_no_other_point_beats() -> None:
    generator = np.random.default_rng(3)
    points = [(float(x), float(y)) for x, y in generator.integers(0, 12, size=(60, 2))]
    slow = {
        i
        for i, (x, y) in enumerate(points)
        if not any((u > x and v >= y) or (u >= x and v > y) for u, v in points)
    }
    front = pareto_front(points)
    assert set(front) == slow
    assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)
    assert pareto_front([(1.0, 1.0), (math.nan, 5.0), (1.0, 1.0), (0.0, 2.0), (1.0, 0.0)]) == [3, 0, 2]
