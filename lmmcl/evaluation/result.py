"""What an evaluation of one task yields: every example's answer and score, and their means."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from lmmcl.data.row import Row
from lmmcl.scorers.score import Score


def is_critical(mark: Any) -> bool:
    """Whether a row's mark ``critical`` says yes; a table without types (CSV) says it in words, a gap says no."""
    if isinstance(mark, float) and math.isnan(mark):
        return False
    return mark.strip().lower() in ("true", "1", "yes") if isinstance(mark, str) else bool(mark)


@dataclass(frozen=True)
class Example:
    """One scored answer.

    Args:
        id: the row's id.
        prediction: what the model said.
        gold: what the scorer compared it with, in JSON's types.
        score: from 0 to 1.
        parsed: whether the scorer could read the prediction.
        parts: named sub-scores, each from 0 to 1.
        critical: whether the row is marked ``critical``: it must not flip from right to wrong.
        group: where the task's score is a mean over groups of examples, the one that it is in; else None.
    """

    id: str
    prediction: str
    gold: Any
    score: float
    parsed: bool = True
    parts: Mapping[str, float] = field(default_factory=dict)
    critical: bool = False
    group: str | None = None

    @classmethod
    def of(cls, row: Row, prediction: str, score: Score, mean_over: str | None = None) -> Self:
        """The example that a row, its prediction and its score make.

        Args:
            row: that was asked.
            prediction: what the model said.
            score: of the prediction.
            mean_over: key of the row's meta data that names its group, see `lmmcl.data.task.Task`.
        """
        return cls(
            id=row.id,
            prediction=prediction,
            gold=json.loads(json.dumps(row.gold, default=str)),
            score=float(score.value),
            parsed=bool(score.parsed),
            parts={name: float(value) for name, value in sorted(score.parts.items())},
            critical=is_critical(row.meta.get("critical")),
            group=None if mean_over is None else str(row.meta.get(mean_over, "")),
        )


@dataclass(frozen=True)
class TaskResult:
    """All scored answers of one task, in the order of its rows."""

    task: str
    examples: Sequence[Example]

    @property
    def n(self) -> int:
        """Number of examples."""
        return len(self.examples)

    @property
    def groups(self) -> tuple[str, ...] | None:
        """The group of every example, where the score is a mean over groups; else None."""
        if all(example.group is None for example in self.examples):
            return None
        return tuple(example.group or "" for example in self.examples)

    @property
    def mean(self) -> float:
        """The task's score, 0 to 100: the mean over examples, or over groups of the mean in each."""
        if self.groups is None:
            return 100.0 * sum(example.score for example in self.examples) / self.n
        held: dict[str, list[float]] = {}
        for group, example in zip(self.groups, self.examples, strict=True):
            held.setdefault(group, []).append(example.score)
        return 100.0 * sum(sum(scores) / len(scores) for scores in held.values()) / len(held)

    @property
    def unparsed(self) -> float:
        """Share of predictions that the scorer could not read, 0 to 1."""
        return sum(not example.parsed for example in self.examples) / self.n

    @property
    def parts(self) -> dict[str, float]:
        """Mean of every named sub-score, 0 to 100, over the examples that have it."""
        values: dict[str, list[float]] = {}
        for example in self.examples:
            for name, value in example.parts.items():
                values.setdefault(name, []).append(value)
        return {name: 100.0 * sum(found) / len(found) for name, found in sorted(values.items())}

    def to_jsonl(self) -> bytes:
        """One line of JSON per example; the same examples give the same bytes."""
        lines = (json.dumps(_plain(example), ensure_ascii=False, sort_keys=True) for example in self.examples)
        return "".join(f"{line}\n" for line in lines).encode()

    @classmethod
    def from_jsonl(cls, task: str, data: bytes) -> Self:
        """The result that ``to_jsonl`` wrote."""
        return cls(task, tuple(Example(**json.loads(line)) for line in data.decode().split("\n") if line))


def _plain(example: Example) -> dict[str, Any]:
    """All of an example; without a group, where its task has none."""
    held = asdict(example)
    return held if example.group is not None else {key: held[key] for key in held if key != "group"}
