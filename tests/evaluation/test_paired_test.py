"""Paired tests against every flip of the signs, closed forms, and how often they are wrong where nothing differs."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from lmmcl.errors import UserError
from lmmcl.evaluation.across_runs import RunSet
from lmmcl.evaluation.paired_test import TESTED, _contributions, paired_test, sign_flip
from lmmcl.evaluation.run_scores import RunScores
from lmmcl.evaluation.student_t import two_sided
from tests.evaluation.many_runs import run


@pytest.mark.parametrize("seed", range(6))
def test_the_permutation_test_looks_at_every_flip(seed: int) -> None:
    generator = np.random.default_rng(seed)
    differences = generator.choice([-1.0, 0.0, 0.5, 1.0, 1.0, 2.5], size=11)
    observed = abs(differences.sum())
    sums = [
        abs(float(np.dot(signs, differences)))
        for signs in itertools.product([-1, 1], repeat=len(differences))
    ]
    p, exact = sign_flip(differences)
    assert exact
    assert p == pytest.approx(np.mean([value >= observed - 1e-9 for value in sums]), abs=1e-12)


def test_many_values_are_drawn_and_agree_with_the_exact_test() -> None:
    generator = np.random.default_rng(1)
    differences = generator.normal(0.15, 1.0, size=200)
    p, exact = sign_flip(differences)
    assert not exact
    z = differences.sum() / math.sqrt(np.square(differences).sum())
    assert p == pytest.approx(math.erfc(abs(z) / math.sqrt(2)), abs=0.01)


def test_equal_answers_give_p_one() -> None:
    assert sign_flip(np.zeros(10)) == (1.0, True)


def test_all_on_one_side_is_as_rare_as_the_coin_says() -> None:
    p, exact = sign_flip(np.ones(8))
    assert exact and p == pytest.approx(2 / 2**8)


@pytest.mark.parametrize("name", TESTED)
def test_two_runs_differ_by_the_difference_of_their_numbers(name: str) -> None:
    runs = RunSet([run(0), run(1, "sa_proj")], resamples=400)
    found = paired_test(runs, 0, 1, name)
    assert (found.unit, found.name) == ("examples", name)
    assert found.value == pytest.approx(runs.values[1][name] - runs.values[0][name])
    assert found.low <= found.value <= found.high
    back = paired_test(runs, [1], [0], name)
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))
    assert back.p == found.p
    assert found.n == 40 * (2 if name in ("held_out_change", "target_forgetting") else 3)


def test_a_run_does_not_differ_from_itself() -> None:
    found = paired_test(RunSet([run(0), run(0)], resamples=50), 0, 1, "held_out_change")
    assert (found.value, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_a_clear_difference_is_found() -> None:
    found = paired_test(RunSet([run(0, n=300), run(1, n=300, shift=30)]), 0, 1, "held_out_change")
    assert found.p < 0.001
    assert found.low > 0


def test_where_nothing_differs_one_test_in_twenty_says_so() -> None:
    generator = np.random.default_rng(5)
    rejected = 0
    for _ in range(800):
        pair = generator.integers(0, 2, size=(2, 80))
        rejected += sign_flip((pair[1] - pair[0]).astype(float))[0] <= 0.05
    assert 0.02 <= rejected / 800 <= 0.06  # exact tests of few values stay below


def test_other_orders_are_compared_task_by_task() -> None:
    runs = RunSet([run(0), run(0, order=["c", "a", "b"])], resamples=100)
    found = paired_test(runs, 0, 1, "target_learning")
    assert found.value == pytest.approx(runs.values[1]["target_learning"] - runs.values[0]["target_learning"])
    with pytest.raises(UserError, match="targets differ"):
        paired_test(runs, 0, 1, "target_forgetting")  # each leaves out its own last target


def test_groups_are_paired_by_seed() -> None:
    runs = RunSet([run(s) for s in range(3)] + [run(s, "sa_proj") for s in (2, 0, 1)], resamples=300)
    name = "target_learning"
    found = paired_test(runs, [0, 1, 2], [3, 4, 5], name)
    differences = [runs.values[j][name] - runs.values[i][name] for i, j in ((0, 4), (1, 5), (2, 3))]
    assert (found.n, found.unit) == (3, "runs")
    assert found.value == pytest.approx(np.mean(differences))
    a = float(np.var(differences, ddof=1)) / 3
    draws = sum(runs.draws[j][name] - runs.draws[i][name] for i, j in ((0, 4), (1, 5), (2, 3))) / 3
    b = float(np.var(draws))
    t = float(np.mean(differences)) / math.sqrt(a + b)
    assert found.p == pytest.approx(two_sided(t, 2 * ((a + b) / a) ** 2))
    # The interval and the test agree on whether zero is possible.
    assert (found.low <= 0 <= found.high) == (found.p >= 0.05)


def test_a_run_without_a_partner_is_named_and_no_test_over_examples_takes_its_place() -> None:
    runs = RunSet([run(0), run(1), run(0, "sa_proj"), run(2, "sa_proj"), run(1, "sa_proj")], resamples=20)
    assert paired_test(runs, [0, 1], [2, 4], "target_learning").unit == "runs"
    with pytest.raises(UserError, match="paired by seed and order") as error:
        paired_test(runs, [0, 1], [2, 3], "target_learning")
    assert "runs/full-1" in str(error.value) and "runs/sa_proj-2" in str(error.value)
    assert "runs/full-0" not in str(error.value)
    with pytest.raises(UserError, match="runs/sa_proj-2"):
        paired_test(runs, [0, 1], [2, 3, 4], "target_learning")
    with pytest.raises(UserError, match="runs/full-1"):
        paired_test(runs, [0, 1], [2], "target_learning")


def test_what_cannot_be_compared_is_refused_with_the_reason() -> None:
    short = run(1, n=30)
    runs = RunSet([run(0), short, run(2, order=["a", "b"]), run(2)], resamples=20)
    for a, b, name, reason in (
        (0, 1, "held_out_change", r"different examples of x \(40 and 30\)"),
        (0, 2, "target_learning", r"targets differ \(c\)"),
        (0, 3, "recovery", "no mean over examples"),
        (0, 3, "speed", "speed has no value"),
        ([0, 1], [2, 3], "target_learning", "paired by seed and order"),
    ):
        with pytest.raises(UserError, match=reason):
            paired_test(runs, a, b, name)


def test_a_score_that_is_a_mean_over_groups_is_tested_as_one() -> None:
    groups = {"x": ["small"] * 5 + ["large"] * 35}
    plain, better = run(0, n=40), run(0, "sa_proj", n=40, shift=30.0)
    runs = RunSet([replace(one, groups=groups) for one in (plain, better)], resamples=400)
    found = paired_test(runs, 0, 1, "held_out_change")
    assert found.value == pytest.approx(runs.values[1]["held_out_change"] - runs.values[0]["held_out_change"])

    def score(one: RunScores) -> float:
        of = [one.scores["x"][:, :5].mean(axis=1), one.scores["x"][:, 5:].mean(axis=1)]
        x, y = np.mean(of, axis=0), one.scores["y"].mean(axis=1)
        return float(np.mean([x[-1] - x[0], y[-1] - y[0]]))

    assert found.value == pytest.approx(score(better) - score(plain))
    added = [_contributions(one, "held_out_change") for one in runs.runs]
    assert sum(added[1][task].sum() - added[0][task].sum() for task in "xy") == pytest.approx(found.value)
    mixed = RunSet([plain, replace(better, groups=groups)], resamples=50)
    with pytest.raises(UserError, match="different examples of x"):
        paired_test(mixed, 0, 1, "held_out_change")
