"""Runs tasks of lmms-eval on the model in memory. Import it through `lmmcl.evaluation.lmms_import` only."""

from __future__ import annotations

import inspect
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import lmms_eval.api.task
import lmms_eval.evaluator
from lightning.pytorch.utilities.seed import isolate_rng
from lmms_eval.api.model import lmms
from PIL import ImageFile
from typing_extensions import override

from lmmcl.data.row import Row
from lmmcl.evaluation.answering import EvaluationStopped, Length
from lmmcl.evaluation.lmms_import import globals_kept
from lmmcl.evaluation.lmms_reading import cut, examples_of, generation_settings, row_of
from lmmcl.evaluation.lmms_tasks import HarnessTask, load, named, unsupported
from lmmcl.evaluation.result import TaskResult

__all__ = ["HarnessTask", "InMemory", "load", "run"]

Answer = Callable[[Sequence[Row], Sequence[Length], int], list[str]]
"""Answers rows of certain lengths in at most so many tokens each; a collective, the same on every process."""


def _without_bar(tqdm: Any) -> Callable[..., Any]:
    """Lets a loop run without its progress bar, which would tear ours."""
    return lambda *values, **options: tqdm(*values, **{**options, "disable": True})


for _module in (lmms_eval.api.task, lmms_eval.evaluator):
    _module.tqdm = _without_bar(_module.tqdm)


class _Done(Exception):  # noqa: N818 - not an error
    """The answers are gathered: scoring them is the first process's turn."""


class _Documents(Sequence[Row]):
    """The rows of some requests; a row is made, and its pictures opened, when it is asked for."""

    def __init__(self, task: Any, requests: Sequence[Any]) -> None:
        self._task = task
        self._requests = requests

    @override
    def __len__(self) -> int:
        return len(self._requests)

    @override
    def __getitem__(self, position: Any) -> Any:
        _, to_messages, _, document, name, split = self._requests[position].args
        return row_of(name, document, to_messages(self._task.dataset[split][document]))


class InMemory(lmms):  # type: ignore[misc]  # lmms-eval brings no types
    """lmms-eval's view of the model in memory: it is given chat messages and answers through ``answer``.

    Args:
        task: whose requests come.
        answer: answers rows.
        scores: whether this process goes on to score the answers.
    """

    is_simple = False

    def __init__(self, task: HarnessTask, answer: Answer, scores: bool) -> None:
        super().__init__()
        self._harness_task = task
        self._answer = answer
        self._scores = scores
        self._out = sys.stdout
        self.failure: Exception | None = None

    @override
    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        groups: dict[tuple[int, tuple[str, ...]], list[int]] = {}
        for position, request in enumerate(requests):
            groups.setdefault(generation_settings(request.args[2]), []).append(position)
        answers = [""] * len(requests)
        for (max_new_tokens, until), positions in groups.items():
            asked = [requests[position] for position in positions]
            rows = _Documents(self._harness_task.task, asked)
            lengths = [(0, len(request.args[0])) for request in asked]
            try:
                with redirect_stdout(self._out):
                    found = self._answer(rows, lengths, max_new_tokens)
            except Exception as error:
                self.failure = error
                raise
            for position, text in zip(positions, found, strict=True):
                answers[position] = cut(text, until)
        if not self._scores:
            raise _Done
        return answers

    @override
    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        raise unsupported(self._harness_task.task, self._harness_task.name)

    @override
    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        raise unsupported(self._harness_task.task, self._harness_task.name)


def run(
    task: HarnessTask, answer: Answer, scores: bool, limit: int | None, metric: str | None, best: float
) -> tuple[str, float, TaskResult] | None:
    """Asks and scores a task through lmms-eval's ``simple_evaluate``; call it on every process.

    To lmms-eval every process is alone with all documents; ``answer`` deals them out. Its own way with several
    processes reads ``RANK``, which not every launcher sets, and repeats documents to even out their numbers.

    Args:
        task: the task.
        answer: answers rows.
        scores: whether this process scores what was answered; the first one does.
        limit: the first so many documents; None: all.
        metric: the score; None: the first that every document has.
        best: the metric's value for a perfect document.

    Returns:
        The metric, lmms-eval's own score and the result by document; None on processes that do not score.

    Raises:
        UserError: the task's scorer failed, or does not score documents.
    """
    model = InMemory(task, answer, scores)
    # simple_evaluate seeds random, numpy and torch for the whole process, for scorers that guess.
    # Aggregations print tables of their own.
    with (
        globals_kept(),
        _alone(),
        isolate_rng(),
        redirect_stdout(io.StringIO()),
        TemporaryDirectory() as unwanted,
        named(
            task.name, "score", lambda error: isinstance(error, EvaluationStopped) or error is model.failure
        ),
    ):
        ImageFile.LOAD_TRUNCATED_IMAGES = True  # as lmms-eval has it: some of its sets hold such pictures
        try:
            found = lmms_eval.evaluator.simple_evaluate(
                model=model,
                tasks=[task.task],
                task_manager=SimpleNamespace(),
                limit=limit,
                bootstrap_iters=0,
                distributed_executor_backend="torchrun",
                # As its command line has them; some aggregations write a file for a leaderboard.
                cli_args=SimpleNamespace(process_with_media=False, output_path=unwanted),
                process_docs_parallel=1,  # in threads, guesses would depend on the time
            )
        except _Done:
            return None
        finally:
            task.task._instances = None  # the answers and what was asked
        metrics = {name: _for_documents(aggregate) for name, aggregate in task.task.aggregation().items()}
        samples = next(iter(found["samples"].values()))
        chosen, result = examples_of(task.name, samples, metrics, metric, best)
    totals = next(iter(found["results"].values()))
    own = next((value for key, value in totals.items() if key.split(",")[0] == chosen), float("nan"))
    return chosen, float(own) if isinstance(own, int | float) else float("nan"), result


def _for_documents(aggregate: Callable[..., Any]) -> Callable[[list[Any]], Any] | None:
    """An aggregation; None for one that asks for lmms-eval's command line, to write a file."""
    return None if "args" in inspect.signature(aggregate).parameters else aggregate


@contextmanager
def _alone() -> Iterator[None]:
    """To lmms-eval, which asks the environment, this is the only process."""
    words = {"WORLD_SIZE": "1", "RANK": "0"}
    before = {word: os.environ.get(word) for word in words}
    os.environ.update(words)
    try:
        yield
    finally:
        for word, value in before.items():
            if value is None:
                del os.environ[word]
            else:
                os.environ[word] = value
