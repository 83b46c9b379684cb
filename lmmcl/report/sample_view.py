"""Sampled questions as the page shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lmmcl.report.answers import spells
from lmmcl.report.pictures import data_uri
from lmmcl.report.run_data import RunData

_SAMPLES = 24
"""So many sampled questions are shown, of every task in turns; the tables hold all."""


@dataclass(frozen=True)
class SampleView:
    """One sampled question in the page."""

    task: str
    question: str
    gold: str
    picture: str
    spells: Sequence[Any]


def sample_views(run: RunData) -> list[SampleView]:
    """The samples of a page, each with what every stage answered."""
    return [
        SampleView(one.task, one.question, one.gold, data_uri(one.picture), spells(run, one))
        for one in _in_turns(run)
    ]


def _in_turns(run: RunData) -> list[Any]:
    tasks = [*run.matrix.tasks, *sorted({one.task for one in run.samples} - set(run.matrix.tasks))]
    piles = {task: [one for one in run.samples if one.task == task] for task in tasks}
    rounds = max((len(pile) for pile in piles.values()), default=0)
    dealt = [pile[k] for k in range(rounds) for pile in piles.values() if k < len(pile)][:_SAMPLES]
    return sorted(dealt, key=lambda one: tasks.index(one.task))
