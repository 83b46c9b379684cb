"""Measures tasks: every row answered and scored exactly once, on any number of processes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from lmmcl.agreement import agree, agreed
from lmmcl.data.batches.batch import Batch
from lmmcl.data.row import Row
from lmmcl.data_parallel import share
from lmmcl.errors import UserError
from lmmcl.evaluation.generate import generate
from lmmcl.evaluation.kept_features import Prompts
from lmmcl.evaluation.predictions import PredictionStore
from lmmcl.evaluation.processes import anyone, from_first, in_order, world
from lmmcl.evaluation.result import Example, TaskResult
from lmmcl.scorers.score import Scorer

__all__ = [
    "EvaluationStopped",
    "Example",
    "Kept",
    "TaskResult",
    "answered",
    "evaluate",
    "evaluate_task",
    "measured",
]


Length = tuple[int, int]
"""How long a prompt is: its pictures, then its characters."""


MakePrompts = Callable[[Sequence[Row]], Batch | Prompts]


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


class Speaker(Protocol):
    """What the evaluator needs of a `lmmcl.model.ContinualLMM`."""

    @property
    def model(self) -> Any:
        """The transformers model."""
        ...

    @property
    def processor(self) -> Any:
        """Its processor or tokenizer."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the prompts go."""
        ...

    def inference(self) -> AbstractContextManager[Any]:
        """Eval mode, autocast, and on FSDP2 the weights gathered, for as long as it is open."""
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


class EvaluationStopped(Exception):  # noqa: N818 - a request that was met, not an error
    """The evaluation was asked to stop between two batches; tasks already done are kept."""


def length(row: Row) -> Length:
    """How long a row's prompt is, without opening its pictures: number of pictures, then characters."""
    texts = (part.get("text", "") for message in row.messages[:-1] for part in message["content"])
    return len(row.images), sum(len(text) for text in texts)


def batches(lengths: Sequence[Length], batch_size: int) -> list[list[int]]:
    """Indices of rows in batches of similar length, longest first: a lack of memory shows at once.

    The batches do not depend on the number of processes: neither do the answers, not even in bf16.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], -i), reverse=True)
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def answered(
    module: Speaker,
    rows: Sequence[Row],
    prompts: MakePrompts,
    max_new_tokens: int,
    *,
    lengths: Sequence[Length] | None = None,
    batch_size: int = 32,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda done: None,
) -> Iterator[tuple[int, str]]:
    """Answers rows in batches; yields the positions and answers of this process (see `in_order`).

    Call it on every process, inside ``module.inference()``, and use it up. Batches are dealt to the processes in turn.
    One that runs out repeats a row whose answer is dropped, so that all of them take part in the same number of
    forward passes (on FSDP2 a forward is collective).

    Args:
        module: the model, its processor and its device.
        rows: at least one; the same on every process.
        prompts: makes a left-padded batch of prompts, or finds one with `KeptFeatures.prompts`.
        max_new_tokens: longest answer in tokens.
        lengths: of the rows, where `length` would have to open them to know.
        batch_size: rows in a batch on one process.
        stop: asked between batches; true on any process stops all.
        progress: called with the number of rows done on all processes.

    Raises:
        EvaluationStopped: ``stop`` said so.
        UserError: a row could not be answered on some process.
    """
    rank, processes = share()
    dealt = batches(lengths if lengths is not None else [length(row) for row in rows], batch_size)
    rounds = -(-len(dealt) // processes)
    mine = [dealt[i] if i < len(dealt) else [] for i in range(rank, rounds * processes, processes)]
    error: Exception | None = None
    with ThreadPoolExecutor(max_workers=1) as ahead:

        def collate(turn: int) -> Any:
            return ahead.submit(lambda: prompts([rows[i] for i in mine[turn] or dealt[-1][-1:]]))

        coming = collate(0)
        for turn, indices in enumerate(mine):
            if anyone(stop(), module.device):
                raise EvaluationStopped
            answers: list[str] = []
            try:
                batch: Batch | Prompts = coming.result()
                if turn + 1 < rounds:
                    coming = collate(turn + 1)
                answers = _answers(module, batch, max_new_tokens)
            except Exception as failure:  # noqa: BLE001 - raised on every process, just below
                error = failure
            if anyone(error is not None, module.device):
                agree(error)
            yield from zip(indices, answers, strict=bool(indices))
            progress(min((turn + 1) * processes * batch_size, len(rows)))


def _answers(module: Speaker, batch: Batch | Prompts, max_new_tokens: int) -> list[str]:
    if isinstance(batch, Prompts):
        return batch.by.answers(batch, max_new_tokens)
    return generate(module.model, module.processor, batch.to(module.device), max_new_tokens)


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
            (
                i,
                Example.of(rows[i], answer, task.scorer(answer, rows[i].gold, rows[i].meta), task.mean_over),
            )
            for i, answer in pairs
        ]
    return TaskResult(task.name, tuple(in_order(scored, len(rows))))


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

    yield from measured(module, list(by_name), measure, kept)


def measured(
    module: Speaker, tasks: Sequence[str], measure: Callable[[str], TaskResult], kept: Kept | None
) -> Iterator[TaskResult]:
    """The results that are kept, then those that have to be measured, each kept before it is yielded.

    Args:
        module: opened for inference while something is measured.
        tasks: their names.
        measure: measures a task, on every process and with the same result.
        kept: where results are looked up and written, by the first process alone.
    """
    first = world()[0] == 0
    results: dict[str, TaskResult | None] = {}
    for name in tasks:
        held = None
        with agreed():
            held = kept.store.find(kept.stage, name, kept.keys[name]) if kept is not None and first else None
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
