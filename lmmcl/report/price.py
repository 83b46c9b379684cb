"""What ways to train pay for what they learn: the number that a comparison sets against learning, and its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class Number(Protocol):
    """A statistic with an interval."""

    @property
    def defined(self) -> bool:
        """Whether there is a number."""


@dataclass(frozen=True)
class Price:
    """One number that says what was lost.

    Args:
        statistic: see `lmmcl.evaluation.statistics`.
        name: on an axis.
        short: before its value.
        none: at zero.
        least: what the way with the largest number did.
        tasks: that lost it.
    """

    statistic: str
    name: str
    short: str
    none: str
    least: str
    tasks: str


HELD_OUT = Price(
    "held_out_change", "held-out change", "held-out", "nothing lost", "lost least", "held-out tasks"
)
FORGETTING = Price(
    "target_forgetting",
    "target forgetting",
    "forgetting",
    "nothing forgotten",
    "forgot least",
    "earlier targets",
)


def price_of(numbers: Sequence[Mapping[str, Number]]) -> Price | None:
    """What all ways have a number for: the held-out tasks, else the earlier targets; None: one target alone."""
    for price in (HELD_OUT, FORGETTING):
        if all(price.statistic in one and one[price.statistic].defined for one in numbers):
            return price
    return None
