"""Measures tasks: every row answered and scored exactly once, on any number of processes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lmmcl.agreement import agreed
from lmmcl.data.row import Row
from lmmcl.errors import UserError
from lmmcl.evaluation.answering import EvaluationStopped, MakePrompts, Speaker, answered
from lmmcl.evaluation.cut_answers import tell_cut_answers
from lmmcl.evaluation.predictions import PredictionStore
from lmmcl.evaluation.processes import from_first, in_order, world
from lmmcl.evaluation.result import Example, TaskResult
from lmmcl.scorers.score import Score, Scorer

__all__ = [
    "EvaluationStopped",
    "Example",
    "Kept",
    "TaskResult",
    "evaluate",
    "evaluate_task",
    "measured",
]


class Measured(Protocol):
    """What the evaluator needs of a `lmmcl.data.task.Task`."""

    @property
    def name(self) -> str:
        """The task's name."""
        ...

    @property
    def scorer(self) -> Scorer:
        """How a prediction is scored."""
        ...

    @property
    def max_new_tokens(self) -> int:
        """Longest answer in tokens."""
        ...

    @property
    def mean_over(self) -> str | None:
        """The key of the rows' meta data over whose values the score is a mean."""
        ...


@dataclass(frozen=True)
class Kept:
    """Where the results of one stage are kept and what they are called.

    Args:
        store: the run's predictions.
        stage: name of the stage.
        keys: task name -> `result_key`.
    """

    store: PredictionStore
    stage: str
    keys: Mapping[str, str]


def evaluate_task(
    module: Speaker,
    task: Measured,
    rows: Sequence[Row],
    prompts: MakePrompts,
    *,
    batch_size: int = 32,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[str, int, int], None] = lambda task, done, total: None,
) -> TaskResult:
    """Answers and scores all rows of one task; call it on every process, inside ``module.inference()``.

    Args:
        module: the model, its processor and its device.
        task: name, scorer and longest answer.
        rows: the same on every process.
        prompts: makes a left-padded batch of prompts, or finds one with `KeptFeatures.prompts`.
        batch_size: rows in a batch on one process.
        stop: asked between batches; true on any process stops all.
        progress: called with task name, rows done on all processes, and all rows.

    Returns:
        The same result on every process, examples in the order of ``rows``.

    Raises:
        EvaluationStopped: ``stop`` said so.
        UserError: the task has no rows, or one of them cannot be answered or scored.
    """
    if not rows:
        raise UserError(
            f"data: task {task.name} has no rows to evaluate; check its split and max_eval_samples."
        )
    if task.mean_over is not None:
        _check_groups(task, rows)
    if world()[0] == 0:
        tell_cut_answers(task.name, task.max_new_tokens, rows, module.processor)
    answers = answered(
        module,
        rows,
        prompts,
        task.max_new_tokens,
        batch_size=batch_size,
        stop=stop,
        progress=lambda done: progress(task.name, done, len(rows)),
    )
    pairs = list(answers)
    with agreed():
        scored = [
            (i, Example.of(rows[i], answer, scored_row(task, rows[i], answer), task.mean_over))
            for i, answer in pairs
        ]
    return TaskResult(task.name, tuple(in_order(scored, len(rows))))


def scored_row(task: Measured, row: Row, answer: str) -> Score:
    """What a task's scorer says of an answer.

    Args:
        task: gives the scorer.
        row: that was asked.
        answer: to it.

    Raises:
        UserError: with task and row: the scorer refuses the row, fails, or returns something else than a score.
    """
    where = f"{task.name}: row {row.id!r}"
    try:
        score: Any = task.scorer(answer, row.gold, row.meta)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except Exception as error:  # a user's own scorer may raise anything
        raise UserError(
            f"{where}: its scorer raised {type(error).__name__} ({error}) at the answer {answer[:60]!r} and the gold "
            f"answer {row.gold!r}; correct the scorer, or the row."
        ) from error
    if not isinstance(score, Score):
        raise UserError(
            f"{where}: a scorer must return lmmcl.scorers.Score, got {score!r}; write return Score({score!r}) where "
            "that is a number from 0 to 1."
        )
    return score


def _check_groups(task: Measured, rows: Sequence[Row]) -> None:
    """Refuses rows without a group where the score is a mean over groups: they would all be one."""
    for row in rows:
        if row.meta.get(str(task.mean_over)) is None:
            there = ", ".join(map(str, row.meta)) or "nothing"
            raise UserError(
                f"data: {task.name}.mean_over must be a key of every row that is measured, got {task.mean_over!r}, and "
                f"row {row.id!r} has {there}; correct the key or the row."
            )


def evaluate(
    module: Speaker,
    tasks: Sequence[Measured],
    rows_by_task: Mapping[str, Sequence[Row]],
    prompts: MakePrompts,
    *,
    batch_size: int = 32,
    kept: Kept | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[str, int, int], None] = lambda task, done, total: None,
) -> Iterator[TaskResult]:
    """Measures tasks one after the other and yields each result as soon as it is known and kept.

    A result that ``kept`` already holds is not made again. Call it on every process and use it up: the
    weights stay gathered from the first task that has to be answered to the last.

    Args:
        module: the model, its processor, its device and how to open it for inference.
        tasks: what to measure.
        rows_by_task: task name -> rows, the same on every process.
        prompts: makes a left-padded batch of prompts, or finds one with `KeptFeatures.prompts`.
        batch_size: rows in a batch on one process.
        kept: where results are looked up and written.
        stop: asked between batches; true on any process stops all.
        progress: called with task name, rows done on all processes, and all rows.

    Raises:
        EvaluationStopped: ``stop`` said so; results yielded before are kept.
    """
    by_name = {task.name: task for task in tasks}

    def measure(name: str) -> TaskResult:
        settings: dict[str, Any] = {"batch_size": batch_size, "stop": stop, "progress": progress}
        return evaluate_task(module, by_name[name], rows_by_task[name], prompts, **settings)

    def suits(held: TaskResult) -> bool:
        """Whether a kept result is of these rows; dropped ones follow from pictures, which no key holds."""
        rows = rows_by_task[held.task]
        return held.n == len(rows) and all(
            one.id == row.id for one, row in zip(held.examples, rows, strict=True)
        )

    yield from measured(module, list(by_name), measure, kept, suits)


def measured(
    module: Speaker,
    tasks: Sequence[str],
    measure: Callable[[str], TaskResult],
    kept: Kept | None,
    suits: Callable[[TaskResult], bool] = lambda held: True,
) -> Iterator[TaskResult]:
    """The results that are kept, then those that have to be measured, each kept before it is yielded.

    Args:
        module: opened for inference while something is measured.
        tasks: their names.
        measure: measures a task, on every process and with the same result.
        kept: where results are looked up and written, by the first process alone.
        suits: whether one that was found may stand for a measurement.
    """
    first = world()[0] == 0
    results: dict[str, TaskResult | None] = {}
    for name in tasks:
        held = None
        with agreed():
            held = kept.store.find(kept.stage, name, kept.keys[name]) if kept is not None and first else None
            held = held if held is not None and suits(held) else None
        results[name] = from_first(held)
    yield from (held for held in results.values() if held is not None)
    pending = [name for name in tasks if results[name] is None]
    if not pending:
        return
    with module.inference():
        for name in pending:
            result = measure(name)
            with agreed():
                if kept is not None and first:
                    kept.store.write(kept.stage, kept.keys[name], result)
            yield result
