"""Which answers changed between right and wrong since the base model, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmmcl.evaluation.result import Example, TaskResult
from lmmcl.scorers.normalise import normalise

RIGHT = 0.5


def _says_gold(prediction: str, gold: Any) -> bool:
    """Whether a gold answer stands in the prediction as whole words."""
    said = f" {normalise(prediction)} "
    answers = gold if isinstance(gold, list) else [gold]
    return any(answer and f" {answer} " in said for answer in (normalise(str(answer)) for answer in answers))


def cause(example: Example) -> str:
    """Why a prediction is wrong: ``format``, ``unreadable`` or ``content``.

    ``format``: the gold answer stands in the prediction, in a form that the scorer does not accept.
    ``unreadable``: the scorer could not read the prediction and the gold answer is not in it. ``content``:
    all else.
    """
    if _says_gold(example.prediction, example.gold):
        return "format"
    return "content" if example.parsed else "unreadable"


@dataclass(frozen=True)
class Flips:
    """Changes of the answers to one task.

    Args:
        n: number of examples.
        lost: share that was right and is wrong, 0 to 1.
        gained: share that was wrong and is right, 0 to 1.
        causes: of the lost ones, by `cause`, as shares of all examples; they add up to ``lost``.
        critical: ids of the lost ones that were marked ``critical``.
        lost_interval: 95 % interval of ``lost`` over examples; None where it was not asked for.
        gained_interval: the same of ``gained``.
    """

    n: int
    lost: float
    gained: float
    causes: Mapping[str, float]
    critical: tuple[str, ...]
    lost_interval: tuple[float, float] | None = None
    gained_interval: tuple[float, float] | None = None


def flips(before: TaskResult, after: TaskResult) -> Flips:
    """Compares two results of one task, example by example; right means a score of at least one half.

    Raises:
        ValueError: the results hold different examples.
    """
    if [e.id for e in before.examples] != [e.id for e in after.examples]:
        raise ValueError(
            f"task {before.task}: the two results hold different examples and cannot be compared"
        )
    pairs = list(zip(before.examples, after.examples, strict=True))
    lost = [new for old, new in pairs if old.score >= RIGHT > new.score]
    gained = sum(old.score < RIGHT <= new.score for old, new in pairs)
    causes = [cause(example) for example in lost]
    return Flips(
        n=len(pairs),
        lost=len(lost) / len(pairs),
        gained=gained / len(pairs),
        causes={name: causes.count(name) / len(pairs) for name in ("format", "unreadable", "content")},
        critical=tuple(example.id for example in lost if example.critical),
    )
