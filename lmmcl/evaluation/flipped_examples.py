"""The answers of a run that changed between right and wrong since the base model, one by one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lmmcl.evaluation.flips import RIGHT, cause
from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.predictions import PredictionStore
from lmmcl.evaluation.result import TaskResult

FLIPS = "flips"
QUESTIONS = "questions.json"


@dataclass(frozen=True)
class FlippedExample:
    """One answer that was right and is wrong, or the reverse.

    Args:
        task: name of the task.
        id: of the row.
        direction: ``lost`` (right with the base model, wrong now) or ``gained``.
        gold: the gold answer as the scorer got it, in JSON's types.
        before: what the base model said.
        after: what the present model says.
        score_before: from 0 to 1.
        score_after: from 0 to 1.
        cause: of the wrong one of the two answers: ``format``, ``unreadable`` or ``content``, see
            `lmmcl.evaluation.flips.cause`.
        critical: whether the row is marked ``critical``.
        question: what was asked, if it was kept.
        picture: a small copy of the row's first picture, if it was kept.
    """

    task: str
    id: str
    direction: Literal["lost", "gained"]
    gold: Any
    before: str
    after: str
    score_before: float
    score_after: float
    cause: str
    critical: bool = False
    question: str | None = None
    picture: Path | None = None


def flipped_examples(before: TaskResult, after: TaskResult) -> list[FlippedExample]:
    """The flipped answers among the rows that both results hold, in the order of ``after``."""
    held = {example.id: example for example in before.examples}
    found: list[FlippedExample] = []
    for new in after.examples:
        old = held.get(new.id)
        if old is None or (old.score >= RIGHT) == (new.score >= RIGHT):
            continue
        lost = old.score >= RIGHT
        found.append(
            FlippedExample(
                after.task,
                new.id,
                "lost" if lost else "gained",
                new.gold,
                old.prediction,
                new.prediction,
                old.score,
                new.score,
                cause(new if lost else old),
                new.critical,
            )
        )
    return found


def picture_name(row_id: str) -> str:
    """File name of a row's small picture; an id may hold what no file name may."""
    return f"{hashlib.sha256(row_id.encode()).hexdigest()[:16]}.jpg"


def read_flips(run: Path, tasks: Sequence[str] | None = None) -> list[FlippedExample]:
    """Every flipped answer between the base model and the last stage of a run.

    Args:
        run: its folder, with ``matrix.json`` and ``predictions/``; from ``flips/`` come questions and pictures of
            some, see `lmmcl.evaluation.flip_pictures`.
        tasks: names; None: all tasks that were measured with the base model and at the last stage, targets first.

    Returns:
        By task, the critical ones first, lost before gained, then in the order of the rows; empty for a run that has
        measured no stage after the base model.

    Raises:
        UserError: the run has no matrix.
        FileNotFoundError: predictions are missing or damaged.
    """
    matrix = Matrix.load(run)
    if len(matrix.finals) < 2:
        return []
    base, last = matrix.finals[0], matrix.finals[-1]
    store = PredictionStore(run / "predictions")
    found: list[FlippedExample] = []
    for task in matrix.tasks:
        if task not in base.cells or task not in last.cells or (tasks is not None and task not in tasks):
            continue
        flipped = flipped_examples(store.read(base.name, task), store.read(last.name, task))
        questions = _questions(run / FLIPS / task)
        ordered = sorted(flipped, key=lambda one: (not one.critical, one.direction != "lost"))
        found += [_with_what_was_kept(one, run / FLIPS / task, questions) for one in ordered]
    return found


def _questions(folder: Path) -> Mapping[str, str]:
    path = folder / QUESTIONS
    return json.loads(path.read_bytes()) if path.exists() else {}


def _with_what_was_kept(
    example: FlippedExample, folder: Path, questions: Mapping[str, str]
) -> FlippedExample:
    picture = folder / picture_name(example.id)
    return replace(example, question=questions.get(example.id), picture=picture if picture.exists() else None)
