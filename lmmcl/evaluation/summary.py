"""The numbers a run ends with: learning, forgetting, held-out change with intervals, and the flips."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np

from lmmcl.evaluation.bootstrap import RESAMPLES, interval, resampled_scores
from lmmcl.evaluation.flips import RIGHT, Flips, flips
from lmmcl.evaluation.result import TaskResult
from lmmcl.evaluation.statistics import (
    HELD_OUT_STATISTICS,
    TARGET_STATISTICS,
    Scores,
    held_out_curve,
    mean_scores,
    worst_stage,
)


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; nan where it is not defined (forgetting with one target)."""

    value: float
    low: float
    high: float

    @property
    def defined(self) -> bool:
        """Whether there is a number."""
        return not math.isnan(self.value)


@dataclass(frozen=True)
class Summary:
    """What a sequence taught and cost, in percentage points.

    Args:
        stages: T, the number of finished stages.
        estimates: name of a statistic (see `lmmcl.evaluation.statistics`) -> estimate; with held-out tasks also
            ``held_out_lost`` and ``held_out_gained``, the mean shares of answers that flipped.
        held_out_curve: the held-out change after stage 0..T.
        worst_stage: k of the worst held-out change; None without held-out tasks.
        flips: task, targets first -> flips from the base model to the last stage.
        changes: task -> S[k][j] − S[0][j] for k = 0..T. A target's learning is the one at its own stage.
        since_own_stage: target -> S[T][t] − S[t][t]; negative means forgot.
        seed: of the bootstrap.
        resamples: of the bootstrap.
    """

    stages: int
    estimates: Mapping[str, Estimate]
    held_out_curve: Sequence[Estimate] = ()
    worst_stage: int | None = None
    flips: Mapping[str, Flips] = field(default_factory=dict)
    changes: Mapping[str, Sequence[Estimate]] = field(default_factory=dict)
    since_own_stage: Mapping[str, Estimate] = field(default_factory=dict)
    seed: int = 0
    resamples: int = RESAMPLES

    def __getitem__(self, name: str) -> Estimate:
        return self.estimates[name]

    @property
    def critical_flips(self) -> list[str]:
        """``task/id`` of every critical row that was right and is wrong."""
        return [f"{task}/{row}" for task, change in self.flips.items() for row in change.critical]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``summary.json``; a number that is not defined is None."""
        return dict(_plain(asdict(self)))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The summary that ``to_dict`` gave."""
        kept = dict(data)
        kept["estimates"] = {name: _estimate(value) for name, value in data["estimates"].items()}
        kept["held_out_curve"] = tuple(_estimate(value) for value in data["held_out_curve"])
        kept["flips"] = {task: _flips(value) for task, value in data["flips"].items()}
        changes, since = data.get("changes", {}), data.get("since_own_stage", {})  # older runs have none
        kept["changes"] = {
            task: tuple(_estimate(value) for value in curve) for task, curve in changes.items()
        }
        kept["since_own_stage"] = {task: _estimate(value) for task, value in since.items()}
        return cls(**kept)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _estimate(value: Mapping[str, float | None]) -> Estimate:
    return Estimate(**{key: math.nan if number is None else number for key, number in value.items()})


def _flips(value: Mapping[str, Any]) -> Flips:
    kept = dict(value)
    for key in ("critical", "lost_interval", "gained_interval"):
        kept[key] = None if kept.get(key) is None else tuple(kept[key])
    return Flips(**kept)


def example_scores(stages: Sequence[Mapping[str, TaskResult]], task: str) -> Scores:
    """Scores of one task by stage and example, (stages, examples), 0 to 100.

    Raises:
        ValueError: a stage measured other examples than the base model.
    """
    groups = stages[0][task].groups
    ids = [example.id for example in stages[0][task].examples]
    for k, results in enumerate(stages):
        if [example.id for example in results[task].examples] != ids or results[task].groups != groups:
            raise ValueError(
                f"task {task}: stage {k} measured other examples than the base model; measure it again"
            )
    return np.array([[100.0 * example.score for example in results[task].examples] for results in stages])


def summarise(
    stages: Sequence[Mapping[str, TaskResult]],
    targets: Sequence[str],
    held_out: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Summary:
    """Learning, forgetting, held-out change and the rest, with paired bootstrap intervals over examples.

    Args:
        stages: results by task after stage 0 (base model) to T, final weights only; T >= 1.
        targets: in the order they are trained; those beyond T are left out.
        held_out: may be empty.
        seed: of the draws.
        resamples: number of draws.

    Raises:
        ValueError: fewer than two stages, or stages that measured different examples.
    """
    last = len(stages) - 1
    trained = list(targets[:last])
    tasks = [*trained, *held_out]
    scores = {task: example_scores(stages, task) for task in tasks}
    # Two rows below the stages: what was lost and gained, so that flips share the draws of everything else.
    groups = {task: stages[0][task].groups for task in tasks}
    rows = {task: _with_flips(scores[task]) for task in tasks}
    drawn = resampled_scores(rows, tasks, seed, resamples, groups, shares=2)
    resampled, flipped = drawn[:, : last + 1], drawn[:, last + 1 :]  # (draw, stage, task), (draw, 2, task)
    point = np.stack([mean_scores(scores[task], groups[task]) for task in tasks], axis=-1)
    t = len(trained)

    def estimate(value: Scores, draws: Scores) -> Estimate:
        return Estimate(float(value), *interval(draws))

    estimates = {
        name: estimate(statistic(point[:, :t]), statistic(resampled[..., :t]))
        for name, statistic in TARGET_STATISTICS.items()
    }
    counted = {}
    for j, task in enumerate(tasks):
        lost, gained = (interval(flipped[:, row, j] / 100) for row in (0, 1))
        counted[task] = replace(
            flips(stages[0][task], stages[-1][task]), lost_interval=lost, gained_interval=gained
        )
    summary = Summary(
        last,
        estimates,
        flips=counted,
        changes={
            task: tuple(
                estimate(point[k, j] - point[0, j], resampled[:, k, j] - resampled[:, 0, j])
                for k in range(last + 1)
            )
            for j, task in enumerate(tasks)
        },
        since_own_stage={
            task: estimate(point[-1, j] - point[j + 1, j], resampled[:, -1, j] - resampled[:, j + 1, j])
            for j, task in enumerate(trained)
        },
        seed=seed,
        resamples=resamples,
    )
    if not held_out:
        return summary
    for row, name in enumerate(("lost", "gained")):
        share = np.mean([100 * getattr(counted[task], name) for task in held_out])
        estimates[f"held_out_{name}"] = estimate(share, flipped[:, row, t:].mean(axis=-1))
    estimates |= {
        name: estimate(statistic(point[:, t:]), statistic(resampled[..., t:]))
        for name, statistic in HELD_OUT_STATISTICS.items()
    }
    curve, curves = held_out_curve(point[:, t:]), held_out_curve(resampled[..., t:])
    return replace(
        summary,
        estimates=estimates,
        held_out_curve=tuple(estimate(curve[k], curves[:, k]) for k in range(last + 1)),
        worst_stage=int(worst_stage(point[:, t:])),
    )


def _with_flips(scores: Scores) -> Scores:
    """Scores (T+1, examples) and below them, as 0 or 100, which examples were lost and which gained."""
    before, after = scores[0] >= 100 * RIGHT, scores[-1] >= 100 * RIGHT
    return np.vstack([scores, 100.0 * (before & ~after), 100.0 * (~before & after)])
