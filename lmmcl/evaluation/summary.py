"""The numbers a run ends with: learning, forgetting, held-out change with intervals, and the flips."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np

from lmmcl.evaluation.bootstrap import RESAMPLES, interval, resampled_scores
from lmmcl.evaluation.flips import Flips, flips
from lmmcl.evaluation.result import TaskResult
from lmmcl.evaluation.statistics import (
    HELD_OUT_STATISTICS,
    TARGET_STATISTICS,
    Scores,
    held_out_curve,
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
        estimates: name of a statistic (see `lmmcl.evaluation.statistics`) -> estimate.
        held_out_curve: the held-out change after stage 0..T.
        worst_stage: k of the worst held-out change; None without held-out tasks.
        flips: held-out task -> flips from the base model to the last stage.
        seed: of the bootstrap.
        resamples: of the bootstrap.
    """

    stages: int
    estimates: Mapping[str, Estimate]
    held_out_curve: Sequence[Estimate] = ()
    worst_stage: int | None = None
    flips: Mapping[str, Flips] = field(default_factory=dict)
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
        kept["flips"] = {
            task: Flips(**{**value, "critical": tuple(value["critical"])})
            for task, value in data["flips"].items()
        }
        return cls(**kept)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _estimate(value: Mapping[str, float | None]) -> Estimate:
    return Estimate(**{key: math.nan if number is None else number for key, number in value.items()})


def example_scores(stages: Sequence[Mapping[str, TaskResult]], task: str) -> Scores:
    """Scores of one task by stage and example, (stages, examples), 0 to 100.

    Raises:
        ValueError: a stage measured other examples than the base model.
    """
    ids = [example.id for example in stages[0][task].examples]
    for k, results in enumerate(stages):
        if [example.id for example in results[task].examples] != ids:
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
    scores = {task: example_scores(stages, task) for task in [*trained, *held_out]}

    def table(tasks: Sequence[str]) -> tuple[Scores, Scores]:
        point = np.stack([scores[task].mean(axis=1) for task in tasks], axis=-1)
        return point, resampled_scores(scores, tasks, seed, resamples)

    point, resampled = table(trained)
    estimates = {
        name: Estimate(float(statistic(point)), *interval(statistic(resampled)))
        for name, statistic in TARGET_STATISTICS.items()
    }
    if not held_out:
        return Summary(last, estimates, seed=seed, resamples=resamples)
    point, resampled = table(held_out)
    estimates |= {
        name: Estimate(float(statistic(point)), *interval(statistic(resampled)))
        for name, statistic in HELD_OUT_STATISTICS.items()
    }
    curve, curves = held_out_curve(point), held_out_curve(resampled)
    return Summary(
        last,
        estimates,
        tuple(Estimate(float(curve[k]), *interval(curves[:, k])) for k in range(last + 1)),
        int(worst_stage(point)),
        {task: flips(stages[0][task], stages[-1][task]) for task in held_out},
        seed,
        resamples,
    )
