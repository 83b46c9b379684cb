"""Whether a scorer gives full marks to a row's own answer."""

from __future__ import annotations

from collections.abc import Sequence

from lmmcl.data.row import Row
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.preflight.finding import Level
from lmmcl.scorers.score import Score


def gold_fault(task: Task, row: Row, scored: bool) -> tuple[Level, str] | None:
    """Scores a row's own answer against its gold answer.

    The prediction is the answer that the row teaches; where several gold answers are accepted, any of them that does
    better. An answer that only some of several annotators gave may score below 1 for good: that is a warning.

    Args:
        task: gives the scorer.
        row: one of its rows.
        scored: the row is measured; the answers of training rows are never scored, so they only warn.

    Returns:
        None for full marks; else how bad it is and why.
    """
    level: Level = "failure" if scored else "warning"
    several = isinstance(row.gold, Sequence) and not isinstance(row.gold, str)
    taught = row.answer if row.messages[-1]["role"] == "assistant" else None
    said = [] if taught is None else [taught]
    try:
        best = _best(task, row, said)
        if best is None or not _full(best):
            others = row.gold if several else [row.gold] if taught is None else []
            best = _best(task, row, [*said, *(str(other) for other in others)])
    except UserError as error:
        text = str(error)
        more = ", or choose another scorer." if text.endswith("correct the row.") else ""
        return level, f"row {row.id!r}: {text.removesuffix('.') + more if more else text}"
    except Exception as error:  # noqa: BLE001 - a user's own scorer may raise anything
        return level, (
            f"row {row.id!r}: its scorer raised {type(error).__name__} ({error}) at the gold answer {row.gold!r}; "
            "correct the row, or the scorer."
        )
    if best is None or not best.parsed:
        return level, (
            f"row {row.id!r}: the scorer must read the row's own answer, and cannot read {taught!r} (gold "
            f"{row.gold!r}); correct the row, or choose another scorer."
        )
    if _full(best):
        return None
    if several and best.value > 0:
        return (
            "warning",
            f"row {row.id!r}: no answer can score more than {best.value:.2f} (gold {row.gold!r})",
        )
    return level, (
        f"row {row.id!r}: the row's own answer must score 1, and {taught!r} scores {best.value:g} against the gold "
        f"{row.gold!r}; correct the row, or choose another scorer."
    )


def _best(task: Task, row: Row, predictions: Sequence[str]) -> Score | None:
    scores = [task.scorer(said, row.gold, row.meta) for said in dict.fromkeys(predictions)]
    return max(scores, key=lambda score: (score.value, score.parsed), default=None)


def _full(score: Score) -> bool:
    return score.parsed and score.value >= 1
