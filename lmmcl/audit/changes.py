"""What changed between two sets of answers to the same questions: scores with intervals, and every flip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lmmcl.data.row import Row
from lmmcl.evaluation.bootstrap import interval, resampled_scores
from lmmcl.evaluation.flipped_examples import FlippedExample, flipped_examples
from lmmcl.evaluation.flips import Flips, flips
from lmmcl.evaluation.loss_bound import held_out_loss
from lmmcl.evaluation.result import TaskResult
from lmmcl.evaluation.statistics import mean_scores
from lmmcl.evaluation.summary import Estimate, example_scores

Results = Mapping[str, TaskResult]


@dataclass(frozen=True)
class TaskChange:
    """What changed in one task.

    Args:
        task: its name.
        target: whether it is what the model was tuned for.
        n: examples.
        before: score, 0 to 100.
        after: score, 0 to 100.
        change: in points, with its 95 % interval (paired bootstrap over examples).
        unread: share of answers that no parser could read, before and after, 0 to 1.
        flips: shares of answers that flipped.
    """

    task: str
    target: bool
    n: int
    before: float
    after: float
    change: Estimate
    unread: tuple[float, float]
    flips: Flips


def mean_change(before: Results, after: Results, tasks: Sequence[str]) -> Estimate | None:
    """The mean over tasks of the change in points, with its 95 % interval; None where there is no task."""
    if not tasks:
        return None
    scores = {task: example_scores([before, after], task) for task in tasks}
    groups = {task: before[task].groups for task in tasks}
    drawn = resampled_scores(scores, tasks, groups=groups)  # (resamples, 2, tasks)
    means = [float(np.diff(mean_scores(scores[task], groups[task]))[0]) for task in tasks]
    return Estimate(float(np.mean(means)), *interval((drawn[:, 1] - drawn[:, 0]).mean(axis=-1)))


def sure_change(before: Results, after: Results, tasks: Sequence[str]) -> Estimate:
    """`mean_change` with the interval that decides, `lmmcl.evaluation.loss_bound.held_out_loss`, as a change.

    Raises:
        ValueError: the two answered other questions.
    """
    scores = {task: example_scores([before, after], task) / 100.0 for task in tasks}
    base, now = ({task: list(both[k]) for task, both in scores.items()} for k in (0, 1))
    lost = held_out_loss(base, now, {task: before[task].groups for task in tasks})
    return Estimate(0.0 - lost.value, 0.0 - lost.high, 0.0 - lost.low)


def task_change(before: TaskResult, after: TaskResult, target: bool) -> TaskChange:
    """What changed in one task."""
    change = mean_change({before.task: before}, {after.task: after}, [before.task])
    assert change is not None
    return TaskChange(
        before.task,
        target,
        before.n,
        before.mean,
        after.mean,
        change,
        (before.unparsed, after.unparsed),
        flips(before, after),
    )


def flipped(before: TaskResult, after: TaskResult, rows: Sequence[Row]) -> list[FlippedExample]:
    """Every answer that flipped, with its question: critical ones first, then lost ones, each in the order of rows."""
    questions = {row.id: question_of(row) for row in rows}
    found = [replace(one, question=questions[one.id]) for one in flipped_examples(before, after)]
    return sorted(
        found, key=lambda one: (not (one.critical and one.direction == "lost"), one.direction != "lost")
    )


def question_of(row: Row) -> str:
    """What was asked: the texts of the user's turns."""
    turns = (message["content"] for message in row.messages[:-1] if message["role"] == "user")
    return "\n".join(part["text"] for parts in turns for part in parts if part["type"] == "text")
