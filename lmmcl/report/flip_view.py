"""Answers that changed between right and wrong: counts and causes by task, and examples to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmmcl.evaluation.flipped_examples import FlippedExample
from lmmcl.report.answers import shortened
from lmmcl.report.pictures import data_uri
from lmmcl.report.run_data import RunData, gold_text

CAUSES = {
    "content": "says something else",
    "format": "the gold answer is there, in a form the scorer does not accept",
    "unreadable": "could not be read",
}
_WAS = {"content": "was wrong", "format": "was in another form", "unreadable": "was unreadable"}
"""The same causes of what was gained: they are those of the earlier answer."""
_SHOWN = 6


@dataclass(frozen=True)
class FlipExample:
    """One flipped answer as the page shows it."""

    id: str
    lost: bool
    question: str
    gold: str
    before: str
    after: str
    tag: str
    critical: bool
    picture: str


@dataclass(frozen=True)
class FlipRow:
    """One task: answers measured, lost, gained, the causes of the lost ones, and some of them."""

    task: str
    held_out: bool
    n: int
    lost: int
    gained: int
    causes: Sequence[tuple[str, int]]
    examples: Sequence[FlipExample]


def flip_rows(run: RunData, flipped: Sequence[FlippedExample]) -> list[FlipRow]:
    """One row per task that was measured before and after, those that lost most of the held-out ones first.

    Args:
        run: at least one stage.
        flipped: all flipped answers of the run.
    """
    rows = []
    for task in run.matrix.tasks:
        found = [one for one in flipped if one.task == task]
        if not found:
            continue
        lost = [one for one in found if one.direction == "lost"]
        held_out = task in run.matrix.held_out
        # What one wants to see of a held-out task is what it lost; those with a picture and every cause come first.
        shown = sorted(lost if held_out else found, key=lambda one: (not one.critical, one.picture is None))
        rows.append(
            FlipRow(
                task,
                held_out,
                run.matrix.finals[-1].cells[task].n,
                len(lost),
                len(found) - len(lost),
                [(cause, sum(one.cause == cause for one in lost)) for cause in CAUSES],
                [_example(one) for one in few(shown)],
            )
        )
    return sorted(rows, key=lambda row: (not row.held_out, -row.lost / row.n if row.held_out else 0.0))


def few(found: Sequence[FlippedExample]) -> list[FlippedExample]:
    """A few of them: all critical ones, then causes in turns; those whose question was kept, where there are any."""
    chosen = [one for one in found if one.critical]
    others = [one for one in found if not one.critical]
    told = [one for one in others if one.question] or others
    rest = {cause: [one for one in told if one.cause == cause] for cause in CAUSES}
    while len(chosen) < _SHOWN and any(rest.values()):
        for cause in CAUSES:
            if rest[cause] and len(chosen) < _SHOWN:
                chosen.append(rest[cause].pop(0))
    return chosen


def _example(one: FlippedExample) -> FlipExample:
    return FlipExample(
        one.id,
        one.direction == "lost",
        shortened(one.question) if one.question else "",
        shortened(gold_text(one.gold)),
        shortened(one.before),
        shortened(one.after),
        f"lost: {one.cause}" if one.direction == "lost" else f"gained; {_WAS[one.cause]}",
        one.critical,
        data_uri(one.picture),
    )
