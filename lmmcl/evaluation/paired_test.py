"""Is one way to train better than another? Tests of paired differences, over examples or over runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lmmcl.errors import UserError
from lmmcl.evaluation.across_runs import SEEDS_AND_ORDERS, RunSet, freedom, mean_interval
from lmmcl.evaluation.bootstrap import interval
from lmmcl.evaluation.run_scores import RunScores
from lmmcl.evaluation.statistics import Scores, members_of
from lmmcl.evaluation.student_t import two_sided

TESTED = ("target_learning", "target_forgetting", "target_overall", "held_out_change")
"""Means over examples: what a test over examples can be made of."""
_FLIPS = 20_000
_EXACT = 200_000


@dataclass(frozen=True)
class PairedTest:
    """The difference of one number between two ways to train, b − a.

    Args:
        name: of the statistic.
        value: the difference, in points.
        low: end of its 95 % interval.
        high: end of its 95 % interval.
        p: two-sided p-value of no difference.
        n: number of what was paired.
        unit: ``examples``: one run each, the same examples: what differs between these two models. ``runs``: several
            runs each, paired by seed and order: what differs between the two ways to train.
        method: how p and interval were made, in words.
    """

    name: str
    value: float
    low: float
    high: float
    p: float
    n: int
    unit: Literal["examples", "runs"]
    method: str


def paired_test(runs: RunSet, a: Sequence[int] | int, b: Sequence[int] | int, name: str) -> PairedTest:
    """Compares two runs, or two groups of runs.

    One run each: a permutation test by flips of the sign of each example's difference (Fisher 1935; for benchmarks
    Dror et al. 2018, P18-1128), exact where the differences take few values and otherwise of 20,000 draws with p =
    (1 + hits)/(1 + draws) (Phipson and Smyth 2010), and the paired bootstrap's interval. Groups: runs are paired by
    seed and order; Student's t of the differences, the examples' variance added as in `AcrossRuns`. Three pairs cannot
    give a permutation test below p = 0.25, a t test can.

    Args:
        runs: all that are compared.
        a: position of a run in it, or of several.
        b: the same.
        name: of the statistic; over examples one of `TESTED`.

    Raises:
        UserError: the runs measured different tasks or examples, a run of a group has none of its seed and order in
            the other, or the statistic has no value or no test over examples.
    """
    first, second = ([group] if isinstance(group, int) else list(group) for group in (a, b))
    pairs = [(first[0], second[0])] if len(first) == len(second) == 1 else _pairs(runs.runs, first, second)
    for i, j in pairs:
        _check_same(runs.runs[i], runs.runs[j], name)
        if any(math.isnan(runs.values[run].get(name, math.nan)) for run in (i, j)):
            raise UserError(f"{name} has no value in {runs.runs[i].run} or {runs.runs[j].run}.")
    if len(pairs) == 1:
        return _over_examples(runs, *pairs[0], name)
    differences = [runs.values[j][name] - runs.values[i][name] for i, j in pairs]
    draws = np.mean([runs.draws[j][name] - runs.draws[i][name] for i, j in pairs], axis=0)
    mean, n = float(np.mean(differences)), len(pairs)
    over_runs, over_examples = float(np.var(differences, ddof=1)) / n, float(np.var(draws))
    error = math.sqrt(over_runs + over_examples)
    p = (
        two_sided(mean / error, freedom(over_runs, over_examples, n))
        if error > 0
        else float(math.isclose(mean, 0.0, abs_tol=1e-12))
    )
    low, high = mean_interval(mean, over_runs, over_examples, n)
    method = f"Student's t over {n} pairs of runs with the same seed and order, variance over examples added"
    return PairedTest(name, mean, low, high, p, n, "runs", method)


def _over_examples(runs: RunSet, i: int, j: int, name: str) -> PairedTest:
    if name not in TESTED:
        raise UserError(f"{name} is no mean over examples; tests over examples are for {', '.join(TESTED)}.")
    before, after = _contributions(runs.runs[i], name), _contributions(runs.runs[j], name)
    differences = np.concatenate([after[task] - before[task] for task in before])
    p, exact = sign_flip(differences)
    value = runs.values[j][name] - runs.values[i][name]
    low, high = interval(runs.draws[j][name] - runs.draws[i][name])
    flips = "exact" if exact else f"{_FLIPS} draws"
    method = f"permutation by sign flips of each example's difference ({flips}), paired bootstrap interval"
    return PairedTest(name, value, low, high, p, len(differences), "examples", method)


def sign_flip(differences: Scores, seed: int = 0) -> tuple[float, bool]:
    """Two-sided p-value that the sum of differences is zero, by flips of their signs.

    Differences of one size are flipped together, as a binomial number of them: scores take few values.

    Args:
        differences: (examples,), weighted as they enter the statistic.
        seed: of the draws, where not all flips are looked at.

    Returns:
        p, and whether it is exact.
    """
    sizes, counts = np.unique(np.round(np.abs(differences[differences != 0]), 12), return_counts=True)
    observed = abs(float(differences.sum())) - 1e-9 * max(1.0, float(np.abs(differences).sum()))
    if not sizes.size:
        return 1.0, True
    if math.prod(int(count) + 1 for count in counts) <= _EXACT:
        sums, weights = np.zeros(1), np.ones(1)
        for size, count in zip(sizes, counts, strict=True):
            up = np.arange(int(count) + 1)
            sums = (sums[:, None] + size * (2 * up - int(count))).ravel()
            weights = (weights[:, None] * _binomial(int(count))).ravel()
        return min(1.0, float(weights[np.abs(sums) >= observed].sum())), True
    generator = np.random.default_rng(seed)
    drawn = sum(
        size * (2.0 * generator.binomial(int(count), 0.5, size=_FLIPS) - int(count))
        for size, count in zip(sizes, counts, strict=True)
    )
    hits = int((np.abs(drawn) >= observed).sum())
    return (1 + hits) / (1 + _FLIPS), False


def _binomial(n: int) -> NDArray[np.float64]:
    """Probabilities of 0..n heads."""
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(n + 1)]
    return np.exp(np.array(logs) - n * math.log(2.0))


def _contributions(run: RunScores, name: str) -> Mapping[str, Scores]:
    """By task, what each example adds to a statistic: their sum is its value."""
    tasks = list(run.held_out if name == "held_out_change" else run.targets)
    if name == "target_forgetting":
        tasks = tasks[:-1]
    found: dict[str, Scores] = {}
    for task in sorted(tasks):
        scores = run.scores[task]
        own = run.targets.index(task) + 1 if task in run.targets else 0
        end, start = {"target_learning": (own, 0), "target_forgetting": (-1, own)}.get(name, (-1, 0))
        found[task] = (scores[end] - scores[start]) / (len(tasks) * _sizes(run, task))
    return found


def _sizes(run: RunScores, task: str) -> Scores:
    """Over which number each example's score is divided in the task's score."""
    n = run.scores[task].shape[1]
    if (groups := run.groups.get(task)) is None:
        return np.asarray(float(n))
    sizes, members = np.zeros(n), members_of(groups)
    for group in members:
        sizes[group] = len(members) * len(group)
    return sizes


def _check_same(a: RunScores, b: RunScores, name: str) -> None:
    """Refuses runs whose number is not of the same examples."""
    held_out = name in ("held_out_change", "worst_held_out_change", "recovery")
    mine, others = (list(run.held_out if held_out else run.targets) for run in (a, b))
    if name == "target_forgetting":
        mine, others = mine[:-1], others[:-1]
    what = "held-out tasks" if held_out else "targets"
    if set(mine) != set(others):
        only = sorted(set(mine) ^ set(others))
        raise UserError(
            f"{name}: {a.run} and {b.run} cannot be compared, their {what} differ ({', '.join(only)}); "
            "measure both on the same ones."
        )
    for task in mine:
        same_groups = list(a.groups.get(task, ())) == list(b.groups.get(task, ()))
        if list(a.ids[task]) != list(b.ids[task]) or not same_groups:
            raise UserError(
                f"{name}: {a.run} and {b.run} cannot be compared, they measured different examples of {task} "
                f"({len(a.ids[task])} and {len(b.ids[task])}); measure both on the same rows and max_eval_samples."
            )


def _pairs(runs: Sequence[RunScores], a: Sequence[int], b: Sequence[int]) -> list[tuple[int, int]]:
    def key(i: int) -> tuple[Any, ...]:
        return tuple(str(runs[i].settings.get(name)) for name in SEEDS_AND_ORDERS)

    mine, theirs = {key(i): i for i in a}, {key(j): j for j in b}
    if len(mine) < len(a) or len(theirs) < len(b) or mine.keys() != theirs.keys():
        alone = [i for i in [*a, *b] if key(i) not in mine or key(i) not in theirs] or [*a, *b]
        raise UserError(
            "runs are paired by seed and order, and these are not: "
            f"{'; '.join(f'{runs[i].run}: {key(i)}' for i in alone)}. Give runs with the same seeds, each once."
        )
    return [(i, theirs[key(i)]) for i in a]
