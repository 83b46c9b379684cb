"""The page of an audit: ``audit.html``, in the look of the report, which opens from disk without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

import lmmcl
from lmmcl.audit.audit import Audit, Verdict
from lmmcl.audit.files import trials
from lmmcl.audit.search import Trial
from lmmcl.audit.tables import distance, short_title
from lmmcl.data.pictures.picture import open_picture
from lmmcl.data.questions import Questions
from lmmcl.data.row import Row
from lmmcl.errors import UserError
from lmmcl.evaluation.flipped_examples import FlippedExample
from lmmcl.evaluation.summary import Estimate
from lmmcl.provenance import without_paths
from lmmcl.report.chart import Chart, Line
from lmmcl.report.chart_svg import line_chart
from lmmcl.report.page import render
from lmmcl.report.pictures import data_uri
from lmmcl.report.style import signed
from lmmcl.run.checkpoint import write_atomically

_SHOWN = 12
"""Flipped answers of a task that are shown."""
CAUSES = {
    "content": "another answer",
    "format": "the right answer, in a form that the scorer does not accept",
    "unreadable": "nothing that could be read",
}


def write_page(audit: Audit, questions: Questions, folder: Path) -> Path:
    """Writes the page; the same audit gives the same bytes."""
    path = folder / "audit.html"
    write_atomically(path, render("audit.html.j2", _context(audit, questions)))
    return path


def _context(audit: Audit, questions: Questions) -> Mapping[str, Any]:
    base, tuned = (str(without_paths(name, "path")) for name in (audit.base, audit.tuned))
    verdict = audit.verdict
    sections = [("tasks", "Gained and lost"), ("flips", "Flips"), ("groups", "What moved")]
    if audit.by_alpha:
        sections.append(("mixtures", "What gives most back"))
    return {
        "title": f"What tuning did to {base}",
        "sentence": _sentence(audit),
        "kicker": f"{base} against {tuned}",
        "sections": [*sections, ("making", "How it was made")],
        "version": lmmcl.__version__,
        "notes": list(audit.notes),
        "cards": _cards(audit),
        "verdict": _tasks(verdict),
        "causes": CAUSES,
        "flips": _flips(verdict, questions),
        "groups": _groups(audit),
        "budget": f"{audit.budget:g}",
        "chart": _alpha_chart(audit),
        "trials": [_trial(trial, audit) for trial in trials(audit)],
        "finalists": [
            {"title": found.candidate.title, "tasks": _tasks(found), "lost": len(found.lost), **_means(found)}
            for found in audit.finalists.values()
            if found.candidate.kind != "tuned"
        ],
        "facts": [
            (key.replace("_", " "), "all" if value is None else value)
            for key, value in audit.settings.items()
        ],
    }


def _points(estimate: Estimate | None) -> Mapping[str, Any]:
    """A change as the page shows it."""
    if estimate is None:
        return {"text": "–", "between": "", "sign": "even", "value": 0.0}
    sign = "gain" if estimate.low > 0 else "loss" if estimate.high < 0 else "even"
    between = f"[{signed(estimate.low, 1)}, {signed(estimate.high, 1)}]"
    return {"text": signed(estimate.value, 1), "between": between, "sign": sign, "value": estimate.value}


def _means(verdict: Verdict) -> Mapping[str, Any]:
    return {"learning": _points(verdict.learning), "held_out": _points(verdict.held_out)}


def _sentence(audit: Audit) -> str:
    verdict = audit.verdict
    if not any(change.changed for change in audit.groups):
        return "No tensor moved: the two models hold the same values."
    held_out = verdict.held_out
    if held_out.high < 0:
        said = f"lost {abs(held_out.value):.1f} points of what it could do"
    elif held_out.low > 0:
        said = f"gained {held_out.value:.1f} points on tasks that it was not tuned for"
    else:
        said = "did not measurably change what it could do"
    learned = ""
    if verdict.learning is not None:
        sure = verdict.learning.low > 0
        learned = (
            f"learned {verdict.learning.value:.1f} points and " if sure else "did not measurably learn and "
        )
    text = f"The tuned model {learned}{said}."
    best = audit.best
    if best is None or best.candidate.kind == "tuned":
        return text
    kept = "" if best.learning is None else f" and {best.learning.value:.1f} points of learning are left"
    return (
        f"{text} With {best.candidate.title} the held-out change is {signed(best.held_out.value, 1)}{kept}."
    )


def _cards(audit: Audit) -> Sequence[Mapping[str, Any]]:
    verdict, best = audit.verdict, audit.best
    cards = [
        {"title": "Learning", "what": "mean change of the targets", **_points(verdict.learning)},
        {
            "title": "Held-out change",
            "what": "mean change of what must not break",
            **_points(verdict.held_out),
        },
    ]
    if best is not None and best.candidate.kind != "tuned":
        told = best.candidate.title
        cards += [
            {"title": "Learning, repaired", "what": told, **_points(best.learning)},
            {"title": "Held-out change, repaired", "what": told, **_points(best.held_out)},
        ]
    return cards


def _tasks(verdict: Verdict) -> Sequence[Mapping[str, Any]]:
    return [
        {
            "task": change.task,
            "role": "target" if change.target else "held\u2011out",
            "n": change.n,
            "before": f"{change.before:.1f}",
            "after": f"{change.after:.1f}",
            "change": _points(change.change),
            "lost": f"{100 * change.flips.lost:.1f} %",
            "gained": f"{100 * change.flips.gained:.1f} %",
            "causes": [f"{100 * change.flips.causes[why]:.1f} %" for why in CAUSES],
        }
        for change in verdict.tasks
    ]


def _flips(verdict: Verdict, questions: Questions) -> Sequence[Mapping[str, Any]]:
    """A few lost answers of every task, critical ones first, causes in turns; with pictures; most lost first."""
    found: list[dict[str, Any]] = []
    for task in questions.tasks:
        lost = [one for one in verdict.lost if one.task == task.name]
        if lost:
            rows = {row.id: row for row in questions.rows(task, "test")}
            shown = [_flip(one, rows[one.id]) for one in _mixed(lost)]
            found.append({"task": task.name, "n": len(lost), "examples": shown})
    return sorted(found, key=lambda row: -row["n"])


def _mixed(lost: Sequence[FlippedExample]) -> list[FlippedExample]:
    chosen = [one for one in lost if one.critical]
    rest = {why: [one for one in lost if one.cause == why and not one.critical] for why in CAUSES}
    while len(chosen) < _SHOWN and any(rest.values()):
        for waiting in rest.values():
            if waiting and len(chosen) < _SHOWN:
                chosen.append(waiting.pop(0))
    return chosen


def _flip(one: FlippedExample, row: Row) -> Mapping[str, Any]:
    gold = ", ".join(dict.fromkeys(map(str, one.gold))) if isinstance(one.gold, list) else str(one.gold)
    picture = ""
    if row.images:
        try:
            picture = data_uri(open_picture(row.images[0], f"row {row.id!r}"))
        except UserError:  # it was read a moment ago; the page does without
            picture = ""
    return {
        "id": one.id,
        "question": one.question or "",
        "gold": gold,
        "before": one.before or "(no answer)",
        "after": one.after or "(no answer)",
        "cause": one.cause,
        "critical": one.critical,
        "picture": picture,
    }


def _groups(audit: Audit) -> Sequence[Mapping[str, Any]]:
    alone = {trial.candidate.groups[0]: trial for trial in audit.by_group}
    farthest = max((change.distance for change in audit.groups if change.norm), default=0.0)
    found = []
    for change in audit.groups:
        trial = alone.get(change.group)
        width = 100 * change.distance / farthest if change.norm and farthest else 0.0
        bar = (
            f'<svg width="104" height="10" aria-hidden="true" class="k0"><rect class="dot" width="{width:.1f}" '
            'height="8" y="1"/></svg>'
        )
        found.append(
            {
                "group": change.group,
                "tensors": f"{change.changed} of {change.tensors}",
                "distance": distance(change.distance),
                "bar": Markup(bar),
                "back": _points(trial.given_back) if trial else None,
                "up": _points(trial.given_up) if trial else None,
            }
        )
    return found


def _alpha_chart(audit: Audit) -> Mapping[str, Any] | None:
    if not audit.by_alpha:
        return None
    alphas = [trial.candidate.alpha for trial in audit.by_alpha]

    def line(name: str, found: Sequence[Estimate], colour: int) -> Line:
        values = ([one.value for one in found], [one.low for one in found], [one.high for one in found])
        return Line(name, alphas, *values, colour=colour, dots=True)

    lines = [line("held-out", [trial.held_out for trial in audit.by_alpha], 1)]
    learning = [trial.learning for trial in audit.by_alpha if trial.learning is not None]
    if learning:
        lines.append(line("learning", learning, 0))
    chosen = audit.choice.alpha if audit.choice is not None else None
    rules = [] if chosen is None else [chosen.candidate.alpha]
    about = "Change from the base on dev, with 95 % intervals: α 0 is the tuned model, 1 the base."
    chart = Chart(
        "alpha", "All groups put back by α", about, lines, unit="points", x_title="α", rules=rules,
        ticks=[(alpha, f"{alpha:g}") for alpha in (0.0, 0.25, 0.5, 0.75, 1.0)], zero=True,
    )  # fmt: skip
    return {"title": chart.title, "about": about, "svg": line_chart(chart), "unit": "", "more": ""}


def _trial(trial: Trial, audit: Audit) -> Mapping[str, Any]:
    best = audit.choice.best if audit.choice is not None else None
    groups = trial.candidate.groups  # each set has one group more than the one above it
    told = " and ".join(groups) if len(groups) == 2 else f"those above and {groups[-1]}" if groups else ""
    return {
        "title": short_title(trial),
        "groups": told if trial.candidate.kind == "set" else "",
        "held_out": _points(trial.held_out),
        "learning": _points(trial.learning),
        "kept": f"{100 * trial.kept:.0f} %",
        "within": trial.within(audit.budget),
        "chosen": best is not None and trial.candidate == best.candidate,
    }
