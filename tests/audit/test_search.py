"""The search: a grid and halving for one α, groups by what they give back per point given up, and the choice."""

from collections.abc import Callable

import pytest

from lmmcl.audit.candidate import Candidate
from lmmcl.audit.search import Trial, alphas, choose, greedy, most_trials, one_by_one
from lmmcl.evaluation.summary import Estimate

GROUPS = ["v", "q", "up", "norm"]
LOSS = {"v": 20.0, "q": 4.0, "up": 6.0, "norm": 0.0}
LEARNING = {"v": 2.0, "q": 8.0, "up": 20.0, "norm": 1.0}


def estimate(value: float, width: float = 0.0) -> Estimate:
    return Estimate(value, value - width, value + width)


def world(width: float = 0.0, norm: float = 0.0) -> tuple[Callable[[Candidate], Trial], list[Candidate]]:
    """Loss and learning add up over groups and are linear in α."""
    asked: list[Candidate] = []
    loss = {**LOSS, "norm": norm}

    def attempt(candidate: Candidate) -> Trial:
        asked.append(candidate)
        left = {group: 1.0 - candidate.by_group().get(group, 0.0) for group in GROUPS}
        lost = sum(loss[group] * left[group] for group in GROUPS)
        learned = sum(LEARNING[group] * left[group] for group in GROUPS)
        width_now = width * (lost > 0)
        return Trial(
            candidate,
            estimate(-lost, width_now),
            estimate(learned),
            sum(left.values()) / len(GROUPS),
            estimate(sum(loss.values()) - lost),
            estimate(learned - sum(LEARNING.values())),
        )

    return attempt, asked


def test_alpha_is_halved_to_the_edge_of_the_budget() -> None:
    attempt, asked = world()
    trials = alphas(GROUPS, attempt, budget=9.0)  # 30 points are lost: α 0.7 would do
    assert [trial.candidate.alpha for trial in trials] == [0.0, 0.25, 0.5, 0.625, 0.6875, 0.71875, 0.75, 1.0]
    choice = choose(trials, [], budget=9.0)
    assert choice.best is not None and choice.best.candidate.alpha == 0.71875
    assert len(asked) == len(trials)


def test_a_wide_interval_asks_for_more() -> None:
    attempt, _ = world(width=3.0)
    found = choose(alphas(GROUPS, attempt, budget=9.0), [], budget=9.0).best
    assert found is not None and found.candidate.alpha == 0.8125


def test_a_model_within_the_budget_is_kept_and_nothing_is_halved() -> None:
    attempt, asked = world()
    trials = alphas(GROUPS, attempt, budget=float("inf"))
    groups = one_by_one(GROUPS, attempt)
    found = choose(trials, groups, budget=float("inf")).best
    assert found is not None and found.candidate.kind == "tuned"
    assert len(asked) == 5 + len(GROUPS)


def test_groups_come_by_points_back_per_point_given_up() -> None:
    attempt, _ = world()
    assert [trial.candidate.groups[0] for trial in one_by_one(GROUPS, attempt)] == ["v", "q", "up", "norm"]


def test_the_best_set_of_groups_beats_one_alpha_for_all() -> None:
    attempt, _ = world()
    budget = 9.0
    by_alpha, by_group = alphas(GROUPS, attempt, budget), one_by_one(GROUPS, attempt)
    sets = greedy(by_group, attempt, budget)
    assert [trial.candidate.groups for trial in sets] == [["v", "q"]]
    choice = choose(by_alpha, [*by_group, *sets], budget)
    assert choice.best is choice.groups is sets[0]
    assert choice.alpha is not None and choice.alpha.candidate.alpha == 0.71875


def test_what_only_the_base_keeps_is_said_so() -> None:
    attempt, _ = world(width=5.0, norm=0.5)
    by_alpha = alphas(GROUPS, attempt, 0.0)
    by_group = one_by_one(GROUPS, attempt)
    choice = choose(by_alpha, [*by_group, *greedy(by_group, attempt, 0.0)], 0.0)
    assert choice.best is None


@pytest.mark.parametrize("budget", [0.0, 5.0, 9.0, 29.0, float("inf")])
@pytest.mark.parametrize("groups", [GROUPS, GROUPS[:2], GROUPS[:1]])
def test_no_more_is_measured_than_was_announced(budget: float, groups: list[str]) -> None:
    attempt, asked = world(width=1.0)
    trials = alphas(groups, attempt, budget)
    ranked = one_by_one(groups, attempt)
    greedy(ranked, attempt, budget)
    assert len(trials) == len({trial.candidate for trial in trials})
    assert len(asked) - 2 <= most_trials(len(groups))
