"""Measures tasks: every row answered and scored exactly once, on any number of processes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist

from lmmcl.data.batch import Batch
from lmmcl.data.row import Row
from lmmcl.errors import UserError
from lmmcl.evaluation.generate import generate
from lmmcl.evaluation.predictions import PredictionStore
from lmmcl.evaluation.result import Example, TaskResult
from lmmcl.scorers.score import Scorer

__all__ = ["EvaluationStopped", "Example", "Kept", "TaskResult", "evaluate", "evaluate_task"]


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


def length(row: Row) -> tuple[int, int]:
    """How long a row's prompt is, without opening its pictures: number of pictures, then characters."""
    texts = (part.get("text", "") for message in row.messages[:-1] for part in message["content"])
    return len(row.images), sum(len(text) for text in texts)


def batches(rows: Sequence[Row], batch_size: int) -> list[list[int]]:
    """Indices of the rows in batches of similar length, longest first: a lack of memory shows at once.

    The batches do not depend on the number of processes: neither do the answers, not even in bf16.
    """
    order = sorted(range(len(rows)), key=lambda i: (length(rows[i]), -i), reverse=True)
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def _world() -> tuple[int, int]:
    """Rank and number of processes."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def _anyone(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any process: one that stops alone would leave the others waiting."""
    if _world()[1] == 1:
        return flag
    shared = torch.tensor(int(flag), device=device)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return bool(shared.item())


def _from_first(value: Any) -> Any:
    """Rank zero's value, on every process."""
    if _world()[1] == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def _from_all(value: list[Any]) -> list[Any]:
    """The lists of all processes in one."""
    world = _world()[1]
    if world == 1:
        return value
    boxes: list[Any] = [None] * world
    dist.all_gather_object(boxes, value)
    return [item for box in boxes for item in box]


def evaluate_task(
    module: Speaker,
    task: Measured,
    rows: Sequence[Row],
    prompts: Callable[[Sequence[Row]], Batch],
    *,
    batch_size: int = 32,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[str, int, int], None] = lambda task, done, total: None,
) -> TaskResult:
    """Answers and scores all rows of one task; call it on every process, inside ``module.inference()``.

    Batches are dealt to the processes in turn. One that runs out repeats a row whose answer is dropped, so
    that all of them take part in the same number of forward passes (on FSDP2 a forward is collective).

    Args:
        module: the model, its processor and its device.
        task: name, scorer and longest answer.
        rows: the same on every process.
        prompts: makes a left-padded batch of prompts.
        batch_size: rows in a batch on one process.
        stop: asked between batches; true on any process stops all.
        progress: called with task name, rows done on all processes, and all rows.

    Returns:
        The same result on every process, examples in the order of ``rows``.

    Raises:
        EvaluationStopped: ``stop`` said so.
        UserError: the task has no rows.
    """
    if not rows:
        raise UserError(
            f"data: task {task.name} has no rows to evaluate; check its split and max_eval_samples."
        )
    rank, world = _world()
    dealt = batches(rows, batch_size)
    rounds = -(-len(dealt) // world)
    mine = [dealt[i] if i < len(dealt) else [] for i in range(rank, rounds * world, world)]
    scored: list[tuple[int, Example]] = []
    with ThreadPoolExecutor(max_workers=1) as ahead:

        def collate(turn: int) -> Any:
            return ahead.submit(prompts, [rows[i] for i in mine[turn] or dealt[-1][-1:]])

        coming = collate(0)
        for turn, indices in enumerate(mine):
            if _anyone(stop(), module.device):
                raise EvaluationStopped(task.name)
            batch: Batch = coming.result()
            if turn + 1 < rounds:
                coming = collate(turn + 1)
            answers = generate(module.model, module.processor, batch.to(module.device), task.max_new_tokens)
            for i, answer in zip(indices, answers, strict=bool(indices)):
                scored.append(
                    (i, Example.of(rows[i], answer, task.scorer(answer, rows[i].gold, rows[i].meta)))
                )
            progress(task.name, min((turn + 1) * world * batch_size, len(rows)), len(rows))
    found = sorted(_from_all(scored), key=lambda pair: pair[0])
    if [i for i, _ in found] != list(range(len(rows))):
        raise RuntimeError(
            f"task {task.name}: {len(rows)} rows gave {len(found)} answers over {world} processes"
        )
    return TaskResult(task.name, tuple(example for _, example in found))


def evaluate(
    module: Speaker,
    tasks: Sequence[Measured],
    rows_by_task: Mapping[str, Sequence[Row]],
    prompts: Callable[[Sequence[Row]], Batch],
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
        prompts: makes a left-padded batch of prompts.
        batch_size: rows in a batch on one process.
        kept: where results are looked up and written.
        stop: asked between batches; true on any process stops all.
        progress: called with task name, rows done on all processes, and all rows.

    Raises:
        EvaluationStopped: ``stop`` said so; results yielded before are kept.
    """
    first = _world()[0] == 0
    results: dict[str, TaskResult | None] = {}
    for task in tasks:
        held = (
            kept.store.find(kept.stage, task.name, kept.keys[task.name])
            if kept is not None and first
            else None
        )
        results[task.name] = _from_first(held)
    pending = [task for task in tasks if results[task.name] is None]
    for task in tasks:
        if (held := results[task.name]) is not None:
            yield held
    if not pending:
        return
    with module.inference():
        for task in pending:
            result = evaluate_task(
                module,
                task,
                rows_by_task[task.name],
                prompts,
                batch_size=batch_size,
                stop=stop,
                progress=progress,
            )
            if kept is not None and first:
                kept.store.write(kept.stage, kept.keys[task.name], result)
            yield result
