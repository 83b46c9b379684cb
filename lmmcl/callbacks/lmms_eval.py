"""Measures tasks of lmms-eval beside a run's own, on the model in memory."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from typing_extensions import override

from lmmcl.agreement import agreed
from lmmcl.data.row import Row
from lmmcl.errors import UserError
from lmmcl.evaluation.answering import Length, answered
from lmmcl.evaluation.evaluator import Kept, measured
from lmmcl.evaluation.lmms_import import lmms_harness
from lmmcl.evaluation.predictions import PredictionStore, result_key
from lmmcl.evaluation.processes import from_first, in_order
from lmmcl.evaluation.result import TaskResult
from lmmcl.mitigation import StageCallback
from lmmcl.model import ContinualLMM
from lmmcl.position import Stage
from lmmcl.probing.kept_prompts import KeptPrompts


class LmmsEval(StageCallback):
    """Adds tasks of lmms-eval (arXiv 2407.12772) to what is measured: held-out columns of the same matrix.

    They are measured whenever the run's own tasks are: the base model, every stage, its variants. lmms-eval gives the
    documents, their prompts and their scores (``simple_evaluate``); chat template, padding and decoding are those of
    all tasks here. Decoding is greedy, whatever a task's ``generation_kwargs`` ask for beyond length and stop texts.

    A column's score is the mean over documents of one metric, so that documents can be compared between stages and
    intervals drawn. Where lmms-eval sums up in another way (F1 over a corpus, pairs of questions), a notice says its
    own number. lmms-eval does not tell which answers it could not read: their share reads 0.

    Needs ``pip install 'lmmcl[lmms-eval]'``. Tasks that compare likelihoods, take several rounds, or show video or
    sound are refused by name, before training where the task's form tells.

    Args:
        tasks: names of tasks, groups or tags of lmms-eval, or ``{task: name, metric: name, best: number}``: the metric
            (default: the first that every document has) and its value for a perfect document (default: 1).
        limit: measure on the first so many documents of each task, from 1; null: on all.
        batch_size: prompts answered at once on one process.
        include_path: folder with further tasks in lmms-eval's YAML form.
        name: of its state.
    """

    def __init__(
        self,
        tasks: list[str | dict[str, Any]],
        limit: int | None = None,
        batch_size: int = 8,
        include_path: str | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if (limit is not None and limit < 1) or batch_size < 1:
            raise UserError(
                "trainer.callbacks: LmmsEval.limit must be at least 1 or null and batch_size at least 1, got "
                f"{limit} and {batch_size}."
            )
        specs = [_spec(task) for task in tasks]
        self.tasks = [spec["task"] for spec in specs]
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise UserError(
                f"trainer.callbacks: LmmsEval.tasks must name at least one task and none twice, got {self.tasks}."
            )
        self.metrics = {spec["task"]: spec["metric"] for spec in specs}
        self.limit = limit
        self.batch_size = batch_size
        # Not decisive: a resumed run may correct what stopped it.
        self._best = {spec["task"]: spec["best"] for spec in specs}
        self._include_path = include_path
        self._loaded: dict[str, Any] = {}
        self._asked_as: dict[str, str] = {}
        self._noticed: set[str] = set()
        self._prompts = KeptPrompts()

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        assert isinstance(pl_module, ContinualLMM)
        self.load({task.name for task in [*pl_module.data.tasks, *pl_module.data.held_out]})

    def load(self, taken: Collection[str]) -> None:
        """Loads the tasks and their data; ``setup`` does, and preflight.

        Args:
            taken: names of the tasks that the run measures already.

        Raises:
            UserError: lmms-eval is not installed, or a task does not load or cannot be measured here.
        """
        taken = set(taken)
        self._harness = lmms_harness()
        for asked, tasks in self._harness.load(self.tasks, self._include_path).items():
            for task in tasks:
                if task.name in taken:
                    raise UserError(
                        f"trainer.callbacks: LmmsEval.tasks has {task.name}, which the run measures already; leave it "
                        "out here or there."
                    )
                if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", task.name):
                    raise UserError(
                        "trainer.callbacks: LmmsEval.tasks: a name must be letters, digits, '_', '-' or '.' (files "
                        f"bear it), got {task.name!r}; give the task another name in LmmsEval.include_path."
                    )
                taken.add(task.name)
                self._loaded[task.name] = task
                self._asked_as[task.name] = asked

    @override
    def evaluate(self, trainer: Trainer, module: ContinualLMM, stage: Stage) -> Mapping[str, TaskResult]:
        kept = Kept(
            PredictionStore(module.sequence.run.predictions),
            stage.predictions,
            {name: self._key(module, name, stage) for name in self._loaded},
        )
        self._make = self._prompts.of(module)
        results = measured(
            module, list(self._loaded), lambda name: self._measure(trainer, module, name), kept
        )
        by_name = {result.task: result for result in results}
        return {name: by_name[name] for name in self._loaded}

    def _key(self, module: ContinualLMM, name: str, stage: Stage) -> str:
        settings = {
            "batch_size": self.batch_size,
            "best": self._best[self._asked_as[name]],
            "limit": self.limit,
            "metric": self.metrics[self._asked_as[name]],
            "precision": str(module.trainer.precision),
        }
        return result_key(stage.weights, self._loaded[name].fingerprint, settings)

    def _measure(self, trainer: Trainer, module: ContinualLMM, name: str) -> TaskResult:
        """The result of a task, the same on every process; the first one scores."""

        def answer(rows: Sequence[Row], lengths: Sequence[Length], max_new_tokens: int) -> list[str]:
            found = answered(
                module,
                rows,
                self._make,
                max_new_tokens,
                lengths=lengths,
                batch_size=self.batch_size,
                stop=lambda: module.sequence.stop.requested,
                progress=lambda done: module.sequence.report_progress(name, done, len(rows)),
            )
            return in_order(list(found), len(rows))

        asked = self._asked_as[name]
        best, found = self._best[asked], None
        with agreed():
            found = self._harness.run(
                self._loaded[name], answer, trainer.is_global_zero, self.limit, self.metrics[asked], best
            )
        result: TaskResult
        metric, own, result = from_first(found)
        if abs(100 * own / best - result.mean) > 0.01 and name not in self._noticed:
            self._noticed.add(name)
            module.sequence.report_notice(
                f"{name}: lmms-eval sums {metric} up to {own:.4g}; the matrix holds the mean over documents, "
                f"{result.mean:.1f}, which can be compared by document"
            )
        return result


def _spec(task: str | Mapping[str, Any]) -> dict[str, Any]:
    """Task, metric and best value of an entry of ``tasks``."""
    spec = {"task": task} if isinstance(task, str) else dict(task)
    odd = sorted(set(spec) - {"task", "metric", "best"})
    best = spec.get("best", 1.0)
    if odd or not isinstance(spec.get("task"), str) or not isinstance(best, int | float) or not best > 0:
        raise UserError(
            "trainer.callbacks: LmmsEval.tasks takes names or {task: name, metric: name, best: a number above 0}, "
            f"got {task!r}."
        )
    return {"task": spec["task"], "metric": spec.get("metric"), "best": float(best)}
