"""What the terminal shows of an audit, in 80 columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lmmcl.audit.audit import Audit, Verdict
from lmmcl.audit.search import Trial
from lmmcl.evaluation.flipped_examples import FlippedExample
from lmmcl.evaluation.summary import Estimate
from lmmcl.report.terminal import signed

_SHOWN = 6
_GAIN, _LOSS = "rgb(63,143,196)", "rgb(217,116,43)"


def interval(estimate: Estimate | None) -> str:
    """``[-3.1, +2.0]``."""
    return "" if estimate is None else f"[{signed(estimate.low)}, {signed(estimate.high)}]"


def points(estimate: Estimate | None) -> Text:
    """A change in points, coloured where its interval leaves out zero."""
    if estimate is None:
        return Text("-", style="dim", justify="right")
    sure = _GAIN if estimate.low > 0 else _LOSS if estimate.high < 0 else ""
    return Text(signed(estimate.value), style=sure, justify="right")


def distance(value: float) -> str:
    """A relative distance in per cent."""
    return "∞" if math.isinf(value) else "0" if value == 0 else f"{100 * value:.3g} %"


def _columns(title: str, first: str, heads: Iterable[str], width: int = 24) -> Table:
    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=title,
        title_justify="left",
        title_style="bold",
    )
    table.add_column(first, no_wrap=True, overflow="ellipsis", max_width=width)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    return table


def tasks_table(verdict: Verdict, name: str = "tuned") -> RenderableType:
    """Every task: scores of both models, the change, and how many answers flipped."""
    heads = ("n", "base", name, "change", "95 % interval", "lost", "gained")
    table = _columns(f"what was gained and lost: base against {name}, on test", "task", heads, 20)
    for target in (True, False):
        shown = [change for change in verdict.tasks if change.target == target]
        for change in shown:
            lost, gained = (f"{100 * share:.1f} %" for share in (change.flips.lost, change.flips.gained))
            numbers = (
                f"{change.before:.1f}",
                f"{change.after:.1f}",
                points(change.change),
                interval(change.change),
            )
            table.add_row(change.task, str(change.n), *numbers, lost, gained)
        if shown:
            mean = verdict.learning if target else verdict.held_out
            label = Text(f"mean of {'targets' if target else 'held-out'}", style="italic")
            table.add_row(label, "", "", "", points(mean), interval(mean), "", "")
        table.add_section()
    return table


def causes(verdict: Verdict) -> str:
    """Why answers were lost, as shares of those lost."""
    lost = verdict.lost
    if not lost:
        return "no answer went from right to wrong"
    meaning = {
        "content": "another answer",
        "format": "the right one in another form",
        "unreadable": "unreadable",
    }
    counts = {why: sum(flip.cause == why for flip in lost) for why in meaning}
    told = ", ".join(f"{count} {meaning[why]} ({why})" for why, count in counts.items() if count)
    answers = "1 answer" if len(lost) == 1 else f"{len(lost)} answers"
    return f"{answers} went from right to wrong: {told.replace('unreadable (unreadable)', 'unreadable')}"


def some_flips(verdict: Verdict) -> Iterable[Text]:
    """A few answers that flipped from right to wrong: all critical ones first, then some of each task in turn."""
    lost = verdict.lost
    shown = [flip for flip in lost if flip.critical][:_SHOWN]
    waiting: dict[str, list[FlippedExample]] = {}
    for flip in lost:
        if not flip.critical:
            waiting.setdefault(flip.task, []).append(flip)
    while len(shown) < _SHOWN and any(waiting.values()):
        for flips in waiting.values():
            if flips and len(shown) < _SHOWN:
                shown.append(flips.pop(0))
    for flip in shown:
        mark = " critical" if flip.critical else ""
        line = (
            f"  {flip.task}/{flip.id}: {_short(flip.before)} became {_short(flip.after)} ({flip.cause}{mark})"
        )
        yield Text(line, style="bold red" if flip.critical else "", overflow="ellipsis", no_wrap=True)
    if len(lost) > len(shown):
        yield Text(f"  all {len(lost)} in flips.csv and audit.html", style="dim")


def _short(text: str, most: int = 24) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= most else f"{line[:most]}…")


def groups_table(audit: Audit) -> RenderableType:
    """Every group: how many tensors moved and how far; what comes back, and is lost, when it alone is put back."""
    alone = {trial.candidate.groups[0]: trial for trial in audit.by_group}
    heads = ("tensors", "distance", *(("held-out", "learning") if alone else ()))
    told = "what moved; right: what changes on dev when it alone is put back" if alone else "what moved"
    table = _columns(told, "group", heads)
    for change in audit.groups:
        numbers = [f"{change.changed}/{change.tensors}", distance(change.distance)]
        if alone:
            trial = alone.get(change.group)
            numbers += [points(trial.given_back), points(trial.given_up)] if trial else ["", ""]  # type: ignore[list-item]  # rich takes both
        table.add_row(change.group, *numbers, style="" if change.changed else "dim")
    return table


def trials_table(audit: Audit) -> RenderableType:
    """Mixtures against the base, on dev; ``*`` marks what is within the budget."""
    heads = ("held-out", "95 % interval", "learning", "95 % interval")
    table = _columns("what a mixture keeps: change from base, on dev", "model", heads, 34)
    best = audit.choice.best if audit.choice is not None else None

    def line(trial: Trial) -> None:
        inside = "*" if trial.within(audit.budget) else " "
        title = Text(
            f"{inside} {short_title(trial)}", style="bold" if best is not None and trial is best else ""
        )
        table.add_row(
            title,
            points(trial.held_out),
            interval(trial.held_out),
            points(trial.learning),
            interval(trial.learning),
        )

    for block in (audit.by_alpha, audit.by_group, audit.sets):
        for trial in block:
            line(trial)
        table.add_section()
    table.caption = f"* held-out loss within {audit.budget:g} points (upper bound); bold: chosen"
    table.caption_justify = "left"
    return table


def short_title(trial: Trial) -> str:
    """A candidate in a few words."""
    groups = trial.candidate.groups
    return f"{len(groups)} groups put back" if trial.candidate.kind == "set" else trial.candidate.title


def verdict_lines(audit: Audit) -> Sequence[Text]:
    """What follows, in a few sentences."""
    if not any(change.changed for change in audit.groups):
        return [Text("no tensor moved: the two models hold the same values", style="bold")]
    if audit.choice is None:
        return []
    best, budget = audit.best, f"{audit.budget:g} points"
    if best is None:
        text = f"no mixture keeps the held-out loss within {budget} (upper bound on dev); only the base itself does"
        return [Text(text, style="bold")]
    if best.candidate.kind == "tuned":
        return [
            Text(
                f"the tuned model itself keeps the held-out loss within {budget}: nothing to put back",
                style="bold",
            )
        ]
    learned = ""
    if best.learning is not None and audit.verdict.learning is not None:
        learned = f", learning {_change(best.learning)} of {signed(audit.verdict.learning.value)}"
    return [
        Text(f"within {budget}, chosen on dev: {best.candidate.title}", style="bold"),
        Text(
            f"on test: held-out {_change(best.held_out)} instead of {signed(audit.verdict.held_out.value)}{learned}"
        ),
    ]


def _change(estimate: Estimate) -> str:
    return f"{signed(estimate.value)} {interval(estimate)}"


def audit_report(audit: Audit) -> RenderableType:
    """Everything that the terminal shows."""
    verdict = audit.verdict
    parts: list[RenderableType] = [tasks_table(verdict), Text(causes(verdict)), *some_flips(verdict), ""]
    parts.append(groups_table(audit))
    if audit.by_alpha:
        parts.append(trials_table(audit))
    parts += [Text(f"note: {note}", style="yellow") for note in audit.notes]
    parts += verdict_lines(audit)
    return Group(*parts)
