"""Asks the same questions after every stage and lays the answers side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lightning.pytorch import Trainer
from typing_extensions import override

from lmmcl.agreement import agreed
from lmmcl.data.pictures.picture import open_picture
from lmmcl.data.row import Row
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.evaluation.answer_log import AnswerLog, SampledAnswer
from lmmcl.evaluation.predictions import PredictionStore
from lmmcl.evaluation.processes import from_first
from lmmcl.evaluation.result import Example
from lmmcl.mitigation import StageCallback
from lmmcl.model import ContinualLMM
from lmmcl.position import Stage
from lmmcl.probing.probe import answered


def evenly(rows: Sequence[Row], count: int) -> list[Row]:
    """So many rows, evenly spread over all of them; all where there are no more."""
    if len(rows) <= count:
        return list(rows)
    return [rows[i * len(rows) // count] for i in range(count)]


class SampledAnswers(StageCallback):
    """Keeps some answers of every task after every stage, the same questions each time, with small pictures.

    The questions are spread evenly over the rows a task is measured on. Where the stage was measured
    (`HeldOutEvaluation`) its answers are taken and nothing is generated; else they are answered greedily here,
    ``samples`` per task and stage.

    Written to ``probes/SampledAnswers/answers.jsonl`` and ``pictures/``.

    Args:
        samples: questions of each task, from 1.
        tasks: names of the run's tasks to sample; null: all, targets first.
        picture_size: most pixels of either side of a picture, from 16.
        batch_size: prompts answered at once where they must be, from 1.
        name: of its folder.

    Raises:
        UserError: a value is out of its range, or a task is not the run's.
    """

    def __init__(
        self,
        samples: int = 8,
        tasks: list[str] | None = None,
        picture_size: int = 256,
        batch_size: int = 32,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        for key, value, least in (
            ("samples", samples, 1),
            ("picture_size", picture_size, 16),
            ("batch_size", batch_size, 1),
        ):
            if value < least:
                raise UserError(
                    f"trainer.callbacks: SampledAnswers.{key} must be at least {least}, got {value}."
                )
        self.samples = samples
        self.tasks = tasks
        self.picture_size = picture_size
        self.batch_size = batch_size

    def chosen(self, module: ContinualLMM) -> list[tuple[Task, list[Row]]]:
        """The questions, by task.

        Raises:
            UserError: a name is none of the run's tasks.
        """
        known = {task.name: task for task in (*module.data.tasks, *module.data.held_out)}
        names = list(known) if self.tasks is None else self.tasks
        for name in names:
            if name not in known:
                raise UserError(
                    f"trainer.callbacks: SampledAnswers.tasks must be tasks of the run, got {name!r}; it has "
                    f"{', '.join(known)}."
                )
        return [(known[name], evenly(module.data.eval_rows(known[name]), self.samples)) for name in names]

    @override
    def on_stage_end(
        self, trainer: Trainer, module: ContinualLMM, task: Task | None, scores: Mapping[str, float]
    ) -> None:
        chosen = self.chosen(module)
        stage = Stage(module.sequence.position.stage, task, weights="")
        examples: dict[str, list[Example]] = {}
        with agreed():
            if trainer.is_global_zero:
                examples = _measured(PredictionStore(module.sequence.run.predictions), stage, chosen, scores)
        examples = from_first(examples)
        missing = [(task, row) for task, rows in chosen if task.name not in examples for row in rows]
        if missing:
            for (task, _), example in zip(missing, answered(module, missing, self.batch_size), strict=True):
                examples.setdefault(task.name, []).append(example)
        with agreed():
            if trainer.is_global_zero:
                self._write(AnswerLog.of(module.sequence.run.path, self.name), stage, chosen, examples)

    def _write(
        self,
        log: AnswerLog,
        stage: Stage,
        chosen: Sequence[tuple[Task, list[Row]]],
        examples: Mapping[str, Sequence[Example]],
    ) -> None:
        answers = []
        for task, rows in chosen:
            for i, (row, example) in enumerate(zip(rows, examples[task.name], strict=True)):
                picture = None
                if row.images:
                    whole = open_picture(row.images[0], f"row {row.id!r}")
                    picture = log.picture(f"{task.name}-{i:03d}", whole, self.picture_size)
                answers.append(
                    SampledAnswer(
                        stage.index,
                        stage.folder,
                        task.name,
                        row.id,
                        _question(row),
                        example.gold,
                        example.prediction,
                        example.score,
                        picture,
                    )
                )
        log.put(stage.index, answers)


def _measured(
    store: PredictionStore,
    stage: Stage,
    chosen: Sequence[tuple[Task, list[Row]]],
    scores: Mapping[str, float],
) -> dict[str, list[Example]]:
    """Answers that the stage's measurement gave, of the tasks that it measured on all chosen rows."""
    found: dict[str, list[Example]] = {}
    for task, rows in chosen:
        if task.name not in scores:
            continue
        try:
            known = {example.id: example for example in store.read(stage.predictions, task.name).examples}
        except FileNotFoundError:
            continue
        if all(row.id in known for row in rows):
            found[task.name] = [known[row.id] for row in rows]
    return found


def _question(row: Row) -> str:
    """The text of the last turn that asks; empty where none does."""
    asked = [message["content"] for message in row.messages if message["role"] == "user"]
    parts = asked[-1] if asked else []
    return "".join(part["text"] for part in parts if part["type"] == "text").strip()
