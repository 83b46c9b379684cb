"""The search of ForgettingBudget, without a model."""

import numpy as np

from lmmcl.evaluation.budget import Alpha, Candidate, Search
from lmmcl.evaluation.loss_bound import NOTHING_LOST, held_out_loss
from lmmcl.evaluation.summary import Estimate


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


def test_the_smallest_alpha_that_no_larger_one_outside_precedes_is_taken() -> None:
    hill = Hill(points=6.0, alphas=[0.2, 0.8, 0.6, 0.4])
    found, chosen = hill.search.run()
    assert [candidate.alpha for candidate in found] == [0.0, 1.0, 0.8, 0.6, 0.4, 0.2]
    assert chosen.alpha == 0.4


def test_the_previous_weights_are_always_tried() -> None:
    found, chosen = Hill(points=0.0, alphas=[0.5]).search.run()
    assert [candidate.alpha for candidate in found] == [0.0, 1.0, 0.5] and chosen.alpha == 1.0


def test_the_latest_step_within_the_budget_is_taken_where_it_learned_more() -> None:
    hill = Hill(points=2.0, alphas=[0.8], steps=[10, 20, 30])
    _, chosen = hill.search.run()
    assert hill.asked == [(0.0, None), (1.0, None), (0.8, None), (0.0, 10), (0.0, 20), (0.0, 30)]
    assert chosen.step == 20 and chosen.scores["t"] == 25.0


def test_groups_that_cost_nothing_are_given_back_as_they_were_tuned() -> None:
    hill = Hill(points=6.0, alphas=[0.4], groups=["good", "bad"])
    found, chosen = hill.search.run()
    assert [candidate.alpha for candidate in found[1:]] == [
        1.0,
        0.4,
        {"good": 0.0, "bad": 0.4},
    ]  # all groups as tuned is known to be too much
    assert chosen.alpha == {"good": 0.0, "bad": 0.4} and chosen.scores["t"] == 42.0


def test_a_group_that_costs_too_much_stays_merged() -> None:
    found, chosen = Hill(points=6.0, alphas=[0.4], groups=["bad", "good"]).search.run()
    assert [candidate.alpha for candidate in found[3:]] == [
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
    assert [candidate.alpha for candidate in found] == [0.0, 1.0, 0.5]
    assert chosen.alpha == 0.5 and not search.within(chosen)


def test_a_merge_behind_one_outside_is_not_trusted() -> None:
    """Tried in a fixed order up to the first outside: else each of them had its own chance to pass by luck."""
    losses = {0.0: 9.0, 0.2: 1.0, 0.4: 6.0, 0.6: 1.0, 1.0: 0.0}

    def score(alpha: Alpha, step: int | None) -> Candidate:
        assert isinstance(alpha, float)
        return Candidate(alpha, step, Estimate(losses[alpha], 0.0, losses[alpha]), {"t": 50 - alpha})

    found, chosen = Search(score, 5.0, "t", [0.2, 0.4, 0.6]).run()
    assert [candidate.alpha for candidate in found] == [0.0, 1.0, 0.6, 0.4] and chosen.alpha == 0.6


def test_what_is_chosen_truly_lost_more_than_the_budget_in_at_most_one_case_of_twenty() -> None:
    """Ten merges that all lost a little more than the budget, each with its own luck."""
    generator = np.random.default_rng(0)
    over, trials = 0, 150
    for _ in range(trials):

        def score(alpha: Alpha, step: int | None) -> Candidate:
            now = np.where(generator.random(100) < 0.11, 0.0, 1.0).tolist()
            loss = NOTHING_LOST if alpha == 1.0 else held_out_loss({"a": [1.0] * 100}, {"a": now})
            assert isinstance(alpha, float)
            return Candidate(alpha, step, loss, {"t": 50 - alpha})

        _, chosen = Search(score, 10.0, "t", [step / 10 for step in range(11)]).run()
        over += chosen.alpha != 1.0
    assert over <= trials * 0.05
