"""``audit.json`` with everything, and tables for a spreadsheet: ``audit.csv``, ``groups.csv`` and ``flips.csv``."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from lmmcl.audit.audit import Audit, Verdict
from lmmcl.audit.search import Trial
from lmmcl.evaluation.summary import Estimate
from lmmcl.run.checkpoint import as_json, write_atomically

VERSION = 1
_SCORES = [
    "model",
    "part",
    "task",
    "role",
    "n",
    "base",
    "score",
    "change",
    "low",
    "high",
    "right_to_wrong",
    "wrong_to_right",
    "format",
    "unreadable",
    "content",
    "unparsed_base",
    "unparsed",
]


def write_files(audit: Audit, folder: Path) -> None:
    """Writes all of them; the same audit gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "audit.csv", _table(_SCORES, _scores(audit)))
    write_atomically(folder / "groups.csv", _table(_GROUPS, _groups(audit)))
    write_atomically(folder / "flips.csv", _table(_FLIPS, _flips(audit)))
    write_atomically(folder / "audit.json", as_json(to_dict(audit)))


def to_dict(audit: Audit) -> dict[str, Any]:
    """Plain values; a number that is not finite is None."""
    best = audit.best
    choice = None
    if audit.choice is not None:
        choice = {
            "best": best.candidate.title if best else None,
            "put_back": dict(best.candidate.alphas) if best else None,
        }
    return {
        "version": VERSION,
        "base": audit.base,
        "tuned": audit.tuned,
        "budget": _plain(audit.budget),
        "settings": _plain(audit.settings),
        "notes": list(audit.notes),
        "tuned_on_test": _verdict(audit.verdict),
        "groups": [{**_plain(change), "distance": _plain(change.distance)} for change in audit.groups],
        "on_dev": [_trial(trial, audit.budget) for trial in trials(audit)],
        "choice": choice,
        "chosen_on_test": [_verdict(verdict) for verdict in audit.finalists.values()],
    }


def trials(audit: Audit) -> list[Trial]:
    """All mixtures that were tried, once each."""
    return [*audit.by_alpha, *audit.by_group, *audit.sets]


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "model": verdict.candidate.title,
        "put_back": dict(verdict.candidate.alphas),
        "learning": _plain(verdict.learning),
        "held_out": _plain(verdict.held_out),
        "critical": verdict.critical,
        "tasks": [_plain(change) for change in verdict.tasks],
        "flips": [{k: v for k, v in _plain(flip).items() if k != "picture"} for flip in verdict.flips],
    }


def _trial(trial: Trial, budget: float) -> dict[str, Any]:
    held = {
        name: _plain(getattr(trial, name))
        for name in ("held_out", "learning", "given_back", "given_up", "kept")
    }
    return {
        "model": trial.candidate.title,
        "put_back": dict(trial.candidate.alphas),
        "within_budget": trial.within(budget),
        **held,
    }


def _scores(audit: Audit) -> Iterable[Sequence[Any]]:
    for verdict in (audit.verdict, *(v for v in audit.finalists.values() if v.candidate.kind != "tuned")):
        for change in verdict.tasks:
            flips = change.flips
            causes = [flips.causes[name] for name in ("format", "unreadable", "content")]
            yield (
                *(
                    verdict.candidate.title,
                    "test",
                    change.task,
                    "target" if change.target else "held_out",
                    change.n,
                ),
                *(change.before, change.after, *_numbers(change.change), flips.lost, flips.gained),
                *(*causes, *change.unread),
            )
        yield from _means(verdict.candidate.title, "test", verdict.learning, verdict.held_out)
    for trial in trials(audit):
        yield from _means(trial.candidate.title, "dev", trial.learning, trial.held_out)


def _means(model: str, part: str, learning: Estimate | None, held_out: Estimate) -> Iterable[Sequence[Any]]:
    for role, estimate in (("target", learning), ("held_out", held_out)):
        if estimate is not None:
            yield model, part, "mean", role, "", "", "", *_numbers(estimate), *[""] * 7


def _numbers(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


_GROUPS = ["group", "tensors", "changed", "distance", "put_back_held_out", "put_back_learning"]


def _groups(audit: Audit) -> Iterable[Sequence[Any]]:
    alone = {trial.candidate.groups[0]: trial for trial in audit.by_group}
    for change in audit.groups:
        trial = alone.get(change.group)
        back = trial.given_back.value if trial else ""
        up = trial.given_up.value if trial and trial.given_up else ""
        yield change.group, change.tensors, change.changed, change.distance, back, up


_FLIPS = ["model", "task", "id", "direction", "cause", "critical", "question", "gold", "before", "after"]


def _flips(audit: Audit) -> Iterable[Sequence[Any]]:
    for verdict in (audit.verdict, *(v for v in audit.finalists.values() if v.candidate.kind != "tuned")):
        for flip in verdict.flips:
            yield (
                *(verdict.candidate.title, flip.task, flip.id, flip.direction, flip.cause, flip.critical),
                *(flip.question, flip.gold, flip.before, flip.after),
            )


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        writer.writerow([repr(value) if isinstance(value, float) else value for value in row])
    return out.getvalue().encode()


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
