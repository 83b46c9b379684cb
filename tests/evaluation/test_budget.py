"""The search of ForgettingBudget, without a model."""

import numpy as np
import pytest

from lmmcl.evaluation.budget import Alpha, Candidate, Search, held_out_loss
from lmmcl.evaluation.summary import Estimate


def test_what_did_not_change_lost_exactly_nothing() -> None:
    same = {"a": [0.0, 1.0, 0.3], "b": [1.0]}
    assert held_out_loss(same, dict(same)) == Estimate(0.0, 0.0, 0.0)


def test_the_loss_is_the_mean_over_tasks_in_points() -> None:
    loss = held_out_loss({"a": [1.0, 0.0] * 20, "b": [1.0] * 10}, {"a": [0.0] * 40, "b": [1.0] * 10})
    assert loss.value == 25.0
    assert 10 < loss.low < loss.value < loss.high < 40
    gained = held_out_loss({"a": [0.0, 0.0]}, {"a": [1.0, 1.0]})
    assert gained == Estimate(-100.0, -100.0, -100.0)


def test_the_interval_is_that_of_an_independent_paired_bootstrap() -> None:
    generator = np.random.default_rng(0)
    base = {name: generator.integers(0, 2, n).astype(float) for name, n in {"a": 80, "b": 200}.items()}
    now = {name: np.where(generator.random(len(s)) < 0.3, 0.0, s) for name, s in base.items()}
    drawn = []
    for _ in range(4000):
        picks = {name: generator.integers(0, len(s), len(s)) for name, s in base.items()}
        drawn.append(100 * np.mean([(base[n][picks[n]] - now[n][picks[n]]).mean() for n in base]))
    loss = held_out_loss({n: s.tolist() for n, s in base.items()}, {n: s.tolist() for n, s in now.items()})
    expected = np.quantile(drawn, [0.025, 0.975])
    assert [loss.low, loss.high] == pytest.approx(expected, abs=0.7)


class Hill:
    """Weights whose loss and learning are known: losses by α, by step and by group."""

    def __init__(self, **options: object) -> None:
        self.asked: list[tuple[Alpha, int | None]] = []
        self.search = Search(self.score, target="t", **options)  # type: ignore[arg-type]  # settings of the test

    def score(self, alpha: Alpha, step: int | None) -> Candidate:
        self.asked.append((alpha, step))
        if step is not None:
            loss, learned = step / 10, 5.0 + step
        elif isinstance(alpha, dict):
            loss, learned = 10 * (1 - alpha["bad"]), 50 - 20 * alpha["good"] - 20 * alpha["bad"]
        else:
            loss, learned = 10 * (1 - alpha), 50 - 40 * alpha
        return Candidate(alpha, step, Estimate(loss, loss, loss), {"t": learned})


def test_plain_tuning_within_the_budget_is_kept_after_one_evaluation() -> None:
    hill = Hill(points=10.0, alphas=[0.5], steps=[3], groups=["good", "bad"])
    found, chosen = hill.search.run()
    assert hill.asked == [(0.0, None)] and found == [chosen] and chosen.alpha == 0.0


def test_the_smallest_alpha_within_the_budget_is_taken_and_no_larger_one_is_tried() -> None:
    hill = Hill(points=6.0, alphas=[0.2, 0.8, 0.6, 0.4])
    found, chosen = hill.search.run()
    assert [candidate.alpha for candidate in found] == [0.0, 0.2, 0.4]
    assert chosen.alpha == 0.4


def test_the_previous_weights_are_always_tried() -> None:
    found, chosen = Hill(points=0.0, alphas=[0.5]).search.run()
    assert [candidate.alpha for candidate in found] == [0.0, 0.5, 1.0] and chosen.alpha == 1.0


def test_the_latest_step_within_the_budget_is_taken_where_it_learned_more() -> None:
    hill = Hill(points=2.0, alphas=[0.8], steps=[10, 20, 30])
    _, chosen = hill.search.run()
    assert hill.asked == [(0.0, None), (0.8, None), (0.0, 30), (0.0, 20)]
    assert chosen.step == 20 and chosen.scores["t"] == 25.0


def test_groups_that_cost_nothing_are_given_back_as_they_were_tuned() -> None:
    hill = Hill(points=6.0, alphas=[0.4], groups=["good", "bad"])
    found, chosen = hill.search.run()
    assert [candidate.alpha for candidate in found[1:]] == [
        0.4,
        {"good": 0.0, "bad": 0.4},
    ]  # all groups as tuned is known to be too much
    assert chosen.alpha == {"good": 0.0, "bad": 0.4} and chosen.scores["t"] == 42.0


def test_a_group_that_costs_too_much_stays_merged() -> None:
    found, chosen = Hill(points=6.0, alphas=[0.4], groups=["bad", "good"]).search.run()
    assert [candidate.alpha for candidate in found[2:]] == [
        {"bad": 0.0, "good": 0.4},
        {"bad": 0.4, "good": 0.0},
    ]
    assert chosen.alpha == {"bad": 0.4, "good": 0.0}


def test_where_nothing_stays_within_the_budget_the_least_loss_is_taken() -> None:
    def score(alpha: Alpha, step: int | None) -> Candidate:
        assert isinstance(alpha, float)
        loss = 5 + abs(alpha - 0.5)
        return Candidate(alpha, step, Estimate(loss, loss - 1, loss + 1), {"t": 50 - alpha})

    search = Search(score, 2.0, "t", [0.5], groups=["a", "b"])
    found, chosen = search.run()
    assert [candidate.alpha for candidate in found] == [0.0, 0.5, 1.0]
    assert chosen.alpha == 0.5 and not search.within(chosen)
