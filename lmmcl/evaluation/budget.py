"""The search of ForgettingBudget: which of a stage's weights learned most and lost no more than a budget."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from typing_extensions import override

from lmmcl.evaluation.bootstrap import interval, resampled_scores
from lmmcl.evaluation.summary import Estimate

Alpha = float | dict[str, float]
"""Share of the previous weights, of all or by group of parameters."""


def held_out_loss(base: Mapping[str, Sequence[float]], now: Mapping[str, Sequence[float]]) -> Estimate:
    """Mean over tasks of how far their scores fell below the base model's, with a paired 95 % bootstrap interval.

    Args:
        base: by task, the scores from 0 to 1 of its rows under the base model.
        now: the same rows under other weights.

    Returns:
        in points from -100 to 100; negative where they gained.
    """
    scores = {task: np.array([base[task], now[task]], dtype=np.float64) * 100 for task in base}
    drawn = resampled_scores(scores, list(scores))  # (resamples, 2, tasks)
    low, high = interval((drawn[:, 0] - drawn[:, 1]).mean(axis=-1))
    return Estimate(float(np.mean([(was - is_).mean() for was, is_ in scores.values()])), low, high)


@dataclass(frozen=True)
class Candidate:
    """Weights that a stage may end with.

    Args:
        alpha: share of the previous weights in the merge with those at the end of the stage.
        step: the weights are those after this step of the stage instead of a merge.
        loss: of held-out abilities against the base model, in points.
        scores: by task on ``dev``, 0 to 100.
    """

    alpha: Alpha
    step: int | None
    loss: Estimate
    scores: Mapping[str, float]

    @override
    def __str__(self) -> str:
        if self.step is not None:
            return f"the weights after step {self.step}"
        if isinstance(self.alpha, dict):
            return "α " + ", ".join(f"{alpha:g} of {group}" for group, alpha in self.alpha.items())
        return f"α {self.alpha:g}"

    def plain(self) -> dict[str, Any]:
        """For the file of choices."""
        loss = {"loss": self.loss.value, "low": self.loss.low, "high": self.loss.high}
        return {"alpha": self.alpha, "step": self.step, "scores": dict(self.scores), **loss}


@dataclass(frozen=True)
class Search:
    """What may be tried, and how.

    Args:
        score: puts weights in place, by α and step, and scores them; a step goes with α 0.
        points: the budget.
        target: whose score says what was learned.
        alphas: to try, besides 0 and 1.
        steps: whose weights are at hand.
        groups: of parameters, to be tried apart; empty: not so.
    """

    score: Callable[[Alpha, int | None], Candidate]
    points: float
    target: str
    alphas: Sequence[float] = ()
    steps: Sequence[int] = ()
    groups: Sequence[str] = ()

    def within(self, candidate: Candidate) -> bool:
        """Whether the upper end of the interval of its loss is within the budget."""
        return candidate.loss.high <= self.points

    def run(self) -> tuple[list[Candidate], Candidate]:
        """All candidates in the order in which they were scored, and the chosen one, which need not be in place."""
        found = [self.score(0.0, None)]
        if self.within(found[0]):
            return found, found[0]
        rising = sorted({float(alpha) for alpha in self.alphas if alpha > 0} | {1.0})
        merges = self._until_within((alpha, None) for alpha in rising)
        found += [*merges, *self._until_within((0.0, step) for step in sorted(self.steps, reverse=True))]
        if self.within(merges[-1]):
            found += self._by_group(rising[len(merges) - 1])
        within = [candidate for candidate in found if self.within(candidate)]
        if within:
            return found, max(within, key=lambda candidate: candidate.scores[self.target])
        return found, min(found, key=lambda candidate: candidate.loss.value)

    def _until_within(self, tries: Iterable[tuple[Alpha, int | None]]) -> list[Candidate]:
        found: list[Candidate] = []
        for alpha, step in tries:
            found.append(self.score(alpha, step))
            if self.within(found[-1]):
                break
        return found

    def _by_group(self, merged: float) -> list[Candidate]:
        """Gives each group back as it was tuned, one after the other; what stays within the budget stays so."""
        found: list[Candidate] = []
        alpha = dict.fromkeys(self.groups, merged)
        for group in self.groups:
            tried = {**alpha, group: 0.0}
            if not any(tried.values()):
                break  # all as tuned, which is known
            found.append(self.score(tried, None))
            if self.within(found[-1]):
                alpha = tried
        return found
