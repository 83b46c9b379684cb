"""What a scorer says of one prediction."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from lmmcl.errors import UserError


@dataclass(frozen=True)
class Score:
    """The score of one prediction.

    Args:
        value: from 0 (wrong) to 1 (right).
        parsed: whether the prediction could be read at all; a change of format is not forgetting, so the share of
            unreadable predictions is reported on its own.
        parts: named sub-scores, each from 0 to 1 (for a clock: ``hour`` and ``minute``).

    Raises:
        UserError: a number is outside of its range, or nan: one in percent would be taken for a hundred right answers.
    """

    value: float
    parsed: bool = True
    parts: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (("value", self.value), *self.parts.items()):
            if not 0 <= value <= 1:
                raise UserError(
                    f"scorer: a score must lie in [0, 1], got {value!r} for {name}; correct the scorer, which gives 1 "
                    "for a right answer."
                )


class Scorer(Protocol):
    """A function of prediction, gold answer and the row's meta data."""

    def __call__(self, prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
        """Scores one prediction."""
        ...
