"""The search of ForgettingBudget: which of a stage's weights learned most and lost no more than a budget."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from lmmcl.evaluation.summary import Estimate

Alpha = float | dict[str, float]
"""Share of the previous weights, of all or by group of parameters."""
Try = tuple[Alpha, int | None]
"""α and step of a candidate."""


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

    The weights as tuned come first, which mostly ends it. Else two walks follow, along the merges from the previous
    weights on and along the steps from the first on, each from what forgets least to what forgets most and up to the
    first outside the budget: fixed sequences, each of which takes weights that lost more than the budget with at most
    2.5 %, however many it tries (`lmmcl.evaluation.loss_bound`). That is 5 % of the weights as tuned and the merges
    together, and 7.5 % with steps. Groups are tried from where the merges ended, at their own bound each, and the
    best of what is left is taken by the target; of groups these percentages do not hold.

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
        falling = sorted({float(alpha) for alpha in self.alphas if alpha > 0} | {1.0}, reverse=True)
        merges: list[Try] = [(alpha, None) for alpha in falling]
        steps: list[Try] = [(0.0, step) for step in sorted(self.steps)]
        walks = [self._until_outside(tries) for tries in (merges, steps)]
        found += [candidate for walk in walks for candidate in walk]
        kept = [inside[-1] for walk in walks if (inside := self._inside(walk))]
        if merged := self._inside(walks[0]):
            groups = self._by_group(merged[-1].alpha)
            found += groups
            kept += self._inside(groups)
        if kept:
            return found, max(kept, key=lambda candidate: candidate.scores[self.target])
        left = [one for tries, walk in zip((merges, steps), walks, strict=True) for one in tries[len(walk) :]]
        found += [self.score(*one) for one in left]
        return found, min(found, key=lambda candidate: candidate.loss.value)

    def _inside(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        return [candidate for candidate in candidates if self.within(candidate)]

    def _until_outside(self, tries: Iterable[Try]) -> list[Candidate]:
        found: list[Candidate] = []
        for alpha, step in tries:
            found.append(self.score(alpha, step))
            if not self.within(found[-1]):
                break
        return found

    def _by_group(self, merged: Alpha) -> list[Candidate]:
        """Gives each group back as it was tuned, one after the other; what stays within the budget stays so."""
        found: list[Candidate] = []
        assert isinstance(merged, float)
        alpha = dict.fromkeys(self.groups, merged)
        for group in self.groups:
            tried = {**alpha, group: 0.0}
            if not any(tried.values()):
                break  # all as tuned, which is known
            found.append(self.score(tried, None))
            if self.within(found[-1]):
                alpha = tried
        return found
