"""Several runs side by side: means and intervals over seeds and orders, and the Pareto front."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lmmcl.errors import UserError
from lmmcl.evaluation.bootstrap import RESAMPLES, interval, resampled_means
from lmmcl.evaluation.run_scores import RunScores, differing
from lmmcl.evaluation.statistics import HELD_OUT_STATISTICS, TARGET_STATISTICS, Scores
from lmmcl.evaluation.student_t import quantile

SEEDS = ("seed",)
SEEDS_AND_ORDERS = ("seed", "order")


@dataclass(frozen=True)
class AcrossRuns:
    """One number over several runs: its mean and a 95 % interval.

    With one run the interval is the bootstrap's over examples. With more it is for what another seed would give on
    other examples: mean ± t · sqrt(a + b), where a = s²/n is the squared standard error over runs, b the bootstrap's
    variance of the mean over examples with the runs held fixed, and t Student's with (n−1)((a+b)/a)² degrees of freedom
    (Satterthwaite 1946, Biometrics Bulletin 2). Runs share their examples, so a sees nothing of b; what both see of the
    interaction of the two counts twice and errs on the wide side, as the pigeonhole bootstrap does (Owen 2007, Annals
    of Applied Statistics 1). A bootstrap of three runs would be too narrow by far: it never leaves their range.

    Args:
        name: of the statistic, see `lmmcl.evaluation.statistics`.
        values: of each run, in the order given.
        value: their mean; nan where the statistic is not defined.
        low: end of the interval.
        high: end of the interval.
        over_examples: the interval over examples alone, with these very runs.
        over_runs: mean ± t · s/√n with n−1 degrees of freedom, on these very examples; None with one run.
        spread: s, the standard deviation over runs; None with one run.
    """

    name: str
    values: tuple[float, ...]
    value: float
    low: float
    high: float
    over_examples: tuple[float, float]
    over_runs: tuple[float, float] | None = None
    spread: float | None = None

    @property
    def n(self) -> int:
        """Number of runs."""
        return len(self.values)

    @property
    def defined(self) -> bool:
        """Whether there is a number."""
        return not math.isnan(self.value)

    @property
    def kind(self) -> Literal["examples", "runs and examples"]:
        """What the interval is over."""
        return "examples" if self.n == 1 else "runs and examples"


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seeds (or orders).

    Args:
        label: the settings that set it off from the other groups, as a text; empty if there is one group.
        settings: the same as values.
        members: positions of its runs.
        numbers: statistic -> its mean and interval over these runs.
    """

    label: str
    settings: dict[str, Any]
    members: tuple[int, ...]
    numbers: dict[str, AcrossRuns]


class RunSet:
    """Runs to be compared, with one bootstrap for all: runs that measured the same examples share every draw.

    Args:
        runs: see `read_run_scores`.
        seed: of the draws.
        resamples: number of draws.
    """

    def __init__(self, runs: Sequence[RunScores], seed: int = 0, resamples: int = RESAMPLES) -> None:
        self.runs = list(runs)
        self.values: list[dict[str, float]] = []
        """Of each run: statistic -> its value."""
        self.draws: list[dict[str, Scores]] = []
        """Of each run: statistic -> its values over the draws, (resamples,)."""
        means = _shared_draws(self.runs, seed, resamples)
        for run, of_task in zip(self.runs, means, strict=True):
            values: dict[str, float] = {}
            draws: dict[str, Scores] = {}
            for tasks, known in ((run.targets, TARGET_STATISTICS), (run.held_out, HELD_OUT_STATISTICS)):
                if tasks:
                    resampled = np.stack([of_task[task] for task in tasks], axis=-1)  # (draw, stage, task)
                    values |= {name: float(statistic(run.points(tasks))) for name, statistic in known.items()}
                    draws |= {name: statistic(resampled) for name, statistic in known.items()}
            self.values.append(values)
            self.draws.append(draws)

    def across(self, members: Sequence[int] | None = None) -> dict[str, AcrossRuns]:
        """Every statistic over some runs (None: all) that has a value in each of them.

        Raises:
            UserError: two of them are one run: the same seed and order, and all other settings.
        """
        chosen = list(range(len(self.runs))) if members is None else list(members)
        _refuse_twice([self.runs[i] for i in chosen])
        names = [name for name in self.values[chosen[0]] if all(name in self.values[i] for i in chosen)]
        return {
            name: _across(name, [self.values[i][name] for i in chosen], [self.draws[i][name] for i in chosen])
            for name in names
        }

    def groups(self, over: Sequence[str] = SEEDS) -> list[Group]:
        """The runs, grouped by all settings but those in ``over``, in the order of their first runs."""
        found: dict[str, list[int]] = {}
        for i, run in enumerate(self.runs):
            rest = {key: value for key, value in run.settings.items() if key not in over}
            found.setdefault(json.dumps(rest, sort_keys=True, default=str), []).append(i)
        different = [key for key in differing([self.runs[m[0]] for m in found.values()]) if key not in over]
        return [
            Group(
                ", ".join(f"{key.removeprefix('model.')}={_text(settings[key])}" for key in different),
                settings,
                tuple(members),
                self.across(members),
            )
            for members in found.values()
            for settings in [{key: self.runs[members[0]].settings.get(key) for key in different}]
        ]


def _text(value: Any) -> str:
    return "+".join(str(one) for one in value) if isinstance(value, list) else str(value)


def _refuse_twice(runs: Sequence[RunScores]) -> None:
    """A copy of a run is no other seed: it would make the interval over runs narrower than it is."""
    known: dict[str, RunScores] = {}
    for run in runs:
        key = json.dumps(run.settings, sort_keys=True, default=str)
        if key in known:
            raise UserError(
                f"{known[key].run} and {run.run} are one run: the same seed, order and settings; give one of them."
            )
        known[key] = run


def _shared_draws(runs: Sequence[RunScores], seed: int, resamples: int) -> list[dict[str, Scores]]:
    """Of each run: task -> mean scores of every draw, (resamples, T+1); drawn as `resampled_scores` draws."""
    found: list[dict[str, Scores]] = [{} for _ in runs]
    for task in dict.fromkeys(task for run in runs for task in run.scores):
        same: dict[tuple[tuple[str, ...], ...], list[int]] = {}
        for i, run in enumerate(runs):
            if task in run.scores:
                examples = tuple(run.ids[task]), tuple(run.groups.get(task, ()))
                same.setdefault(examples, []).append(i)
        for (_, groups), members in same.items():
            stacked = np.concatenate([runs[i].scores[task] for i in members])
            means = resampled_means(stacked, (seed, zlib.crc32(task.encode())), resamples, groups or None)
            ends = np.cumsum([len(runs[i].scores[task]) for i in members])[:-1]
            for i, part in zip(members, np.split(means, ends, axis=1), strict=True):
                found[i][task] = part
    return found


def _across(name: str, values: Sequence[float], draws: Sequence[Scores]) -> AcrossRuns:
    mean = float(np.mean(values))
    of_mean = np.mean(draws, axis=0)
    examples = interval(of_mean)
    if len(values) == 1:
        return AcrossRuns(name, tuple(values), mean, *examples, examples)
    spread = float(np.std(values, ddof=1))
    over_runs = mean_interval(mean, spread**2 / len(values), 0.0, len(values))
    both = mean_interval(mean, spread**2 / len(values), float(np.var(of_mean)), len(values))
    return AcrossRuns(name, tuple(values), mean, *both, examples, over_runs, spread)


def freedom(over_runs: float, over_examples: float, n: int) -> float:
    """Degrees of freedom of a sum of two variances (Satterthwaite 1946), that over examples known from many.

    Args:
        over_runs: squared standard error over runs.
        over_examples: variance over draws of the examples.
        n: number of runs, from 2.
    """
    if over_runs <= 0.0:
        return math.inf
    return (n - 1) * ((over_runs + over_examples) / over_runs) ** 2


def mean_interval(mean: float, over_runs: float, over_examples: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a mean over ``n`` runs, see `AcrossRuns`."""
    if math.isnan(mean):
        return math.nan, math.nan
    if over_runs <= 0.0 and over_examples <= 0.0:
        return mean, mean
    reach = quantile(freedom(over_runs, over_examples, n)) * math.sqrt(over_runs + over_examples)
    return mean - reach, mean + reach


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Positions of the points that no other one beats: at least as good in both numbers and better in one.

    Args:
        points: such as (target learning, held-out change); larger is better in both. Points with nan are left out.

    Returns:
        In the order of the first number, from small to large; equal points are all on the front or all off it.
    """
    known = [i for i, point in enumerate(points) if not any(math.isnan(number) for number in point)]
    front = [
        i
        for i in known
        if not any(
            points[j][0] >= points[i][0] and points[j][1] >= points[i][1] and points[j] != points[i]
            for j in known
        )
    ]
    return sorted(front, key=lambda i: (points[i][0], -points[i][1], i))
