"""Looks for what gives most back at the least cost: one α for all groups, and groups put back whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lmmcl.audit.candidate import Candidate
from lmmcl.evaluation.summary import Estimate

COARSE = (0.25, 0.5, 0.75)
"""α that are always tried, beside 0 (tuned) and 1 (base)."""
REFINEMENTS = 3
"""How often the step between the last α outside the budget and the first inside is halved: to 1/32."""


@dataclass(frozen=True)
class Trial:
    """A candidate and what it was worth on the rows that choose.

    Args:
        candidate: the mixture.
        held_out: mean change of the held-out tasks from the base, in points, with the interval that decides
            (`lmmcl.evaluation.loss_bound`).
        learning: mean change of the targets from the base; None without targets.
        kept: share of the movement that is left, ‖θ − θ_base‖ / ‖θ_tuned − θ_base‖.
        given_back: mean change of the held-out tasks from the tuned model.
        given_up: mean change of the targets from the tuned model; below 0 is lost.
    """

    candidate: Candidate
    held_out: Estimate
    learning: Estimate | None
    kept: float
    given_back: Estimate
    given_up: Estimate | None

    def within(self, budget: float) -> bool:
        """Whether the upper confidence bound of the held-out loss is at most ``budget`` points.

        It holds for each candidate alone; that the best of many is chosen by it is not covered. What was chosen is
        measured again on rows that chose nothing.
        """
        return -self.held_out.low <= budget

    @property
    def learned(self) -> float:
        """What ranks candidates by what is kept: points of learning, or, without targets, the movement left."""
        return self.kept if self.learning is None else self.learning.value


Try = Callable[[Candidate], Trial]


def most_trials(groups: int) -> int:
    """Upper bound of the number of mixtures that are measured to choose, beside base and tuned."""
    if groups == 0:
        return 0
    return len(COARSE) + REFINEMENTS + groups + max(0, groups - 2)


def alphas(groups: Sequence[str], attempt: Try, budget: float) -> list[Trial]:
    """One α for all groups: a coarse grid, then the edge of the budget by halving.

    Args:
        groups: that moved; at least one.
        attempt: measures a candidate.
        budget: points of held-out loss, from 0.

    Returns:
        Trials by α, from 0 (tuned) to 1 (base).
    """
    tried = {alpha: attempt(Candidate.everywhere(groups, alpha)) for alpha in (0.0, *COARSE, 1.0)}
    if not tried[0.0].within(budget):
        for _ in range(REFINEMENTS):
            high = min((alpha for alpha, trial in tried.items() if trial.within(budget)), default=1.0)
            low = max(alpha for alpha in tried if alpha < high)
            middle = (low + high) / 2
            tried[middle] = attempt(Candidate.everywhere(groups, middle))
    return [tried[alpha] for alpha in sorted(tried)]


def one_by_one(groups: Sequence[str], attempt: Try) -> list[Trial]:
    """Each group put back alone, those first that give most held-out points back per point of learning given up."""
    trials = [attempt(Candidate.without([group])) for group in groups]
    return sorted(trials, key=_worth, reverse=True)


def _worth(trial: Trial) -> tuple[bool, float, float]:
    """Sorts by points given back per point given up; what costs nothing comes first, what gives nothing last."""
    back = trial.given_back.value
    cost = -trial.given_up.value if trial.given_up is not None else 1.0 - trial.kept
    if back <= 0:
        return False, back, -cost
    return True, back / cost if cost > 0 else float("inf"), back


def greedy(ranked: Sequence[Trial], attempt: Try, budget: float) -> list[Trial]:
    """Sets of groups put back, grown by one group at a time until the held-out loss is within the budget.

    Args:
        ranked: as `one_by_one` gives them; groups that give nothing back are left out.
        attempt: measures a candidate.
        budget: points of held-out loss.

    Returns:
        The sets of two groups and more, by size; the set of all groups is the base and not among them.
    """
    useful = [trial.candidate.groups[0] for trial in ranked if trial.given_back.value > 0]
    if any(trial.within(budget) for trial in ranked[: min(1, len(useful))]):
        return []
    trials = []
    for size in range(2, min(len(useful), len(ranked) - 1) + 1):
        trials.append(attempt(Candidate.without(useful[:size])))
        if trials[-1].within(budget):
            break
    return trials


@dataclass(frozen=True)
class Choice:
    """What keeps most of the learning within the budget.

    Args:
        best: the candidate; None where only the base itself is within the budget.
        alpha: the strongest mixture of all groups alike that is within it.
        groups: the best set of groups put back that is within it.
    """

    best: Trial | None
    alpha: Trial | None
    groups: Trial | None


def choose(by_alpha: Sequence[Trial], by_group: Sequence[Trial], budget: float) -> Choice:
    """The candidate that keeps most within the budget; the tuned model itself wherever that is within it.

    Args:
        by_alpha: as `alphas` gives them.
        by_group: groups and sets put back.
        budget: points of held-out loss.
    """
    strong = [trial for trial in by_alpha if trial.within(budget) and trial.kept > 0]
    alpha = strong[0] if strong else None
    if alpha is not None and alpha.candidate.kind == "tuned":
        return Choice(alpha, alpha, None)
    inside = [trial for trial in by_group if trial.within(budget) and trial.kept > 0]
    groups = max(inside, key=lambda trial: (trial.learned, trial.kept), default=None)
    both = [trial for trial in (alpha, groups) if trial is not None]
    return Choice(max(both, key=lambda trial: trial.learned, default=None), alpha, groups)
