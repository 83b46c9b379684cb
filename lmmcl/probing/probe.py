"""What probes share: where their readings go, and the few held-out rows that they look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from transformers import LogitsProcessor

from lmmcl.agreement import agreed
from lmmcl.data.batches.batch import IGNORED, Batch
from lmmcl.data.row import Row
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.evaluation.generate import generate
from lmmcl.evaluation.probe_log import ProbeLog, ProbeRow
from lmmcl.evaluation.result import Example
from lmmcl.model import ContinualLMM
from lmmcl.position import Stage
from lmmcl.weights import snapshot

Asked = tuple[Task, Row]
"""A row and the task that it belongs to."""


@dataclass(frozen=True)
class Reading:
    """What one log of a probe holds.

    Args:
        name: of the log: the callback's, or that and a word.
        probe: the callback's class.
        title: of a figure.
        unit: of the values.
        about: one sentence that says what they are.
    """

    name: str
    probe: str
    title: str
    unit: str
    about: str

    def put(
        self,
        trainer: Trainer,
        module: ContinualLMM,
        at: Literal["stage", "step"],
        values: Mapping[str, float],
    ) -> None:
        """Writes a reading of the model as it stands; collective.

        Args:
            trainer: whose fit is running.
            module: that was read.
            at: ``stage`` in ``on_stage_end``; ``step`` in ``on_train_batch_end``, before the driver counts the step.
            values: by series.
        """
        position = module.sequence.position
        task = module.data.tasks[position.stage - 1] if position.stage else None
        folder = Stage(position.stage, task, weights="").folder
        step = position.global_step + (at == "step")
        with agreed():
            if trainer.is_global_zero:
                log = ProbeLog(module.sequence.run.path, self.name)
                log.describe(self.probe, self.title, self.unit, self.about)
                log.put(ProbeRow(position.stage, folder, step, at, dict(values)))


def held_out_rows(module: ContinualLMM, count: int, probe: str) -> list[Asked]:
    """Some ``dev`` rows of every held-out task, in turns, the same on every process; warns of tasks that have none."""
    parts: list[tuple[Task, Sequence[Row]]] = []
    silent: list[str] = []
    for task in module.data.held_out:
        try:
            parts.append((task, module.data.eval_rows(task, "dev", count)))
        except UserError:  # a small file, whose split left no row for dev
            silent.append(task.name)
    if silent or not parts:
        left = (
            f"leaves out {', '.join(silent)}, which must have rows for dev"
            if silent
            else "finds no held-out task"
        )
        rank_zero_warn(f"{probe} {left}{'' if parts else '; it is off'}.")
    dealt = [(task, rows[i]) for i in range(count) for task, rows in parts if i < len(rows)]
    return dealt[:count]


def answer_batches(
    module: ContinualLMM, rows: Sequence[Row], batch_size: int, answer_tokens: int
) -> Iterator[Batch]:
    """Labelled batches in which the first answer tokens of each row count, on the model's device.

    They are the same at every stage, whatever its recipe asks of batches without a picture.
    """
    collator = module.data.collator
    for start in range(0, len(rows), batch_size):
        usual, collator.always_image = collator.always_image, True
        try:
            batch = collator.train(rows[start : start + batch_size])
        finally:
            collator.always_image = usual
        yield shortened(batch, answer_tokens).to(module.device)


def shortened(batch: Batch, answer_tokens: int) -> Batch:
    """A labelled batch in which only the first answer tokens of each row count."""
    assert batch.labels is not None
    return replace(batch, labels=first_answer_tokens(batch.labels, answer_tokens))


def first_answer_tokens(labels: Tensor, count: int) -> Tensor:
    """Labels in which only the first ``count`` answer tokens of each sample are left.

    Args:
        labels: (batch, length).
        count: from 1.

    Returns:
        (batch, length).
    """
    return labels.masked_fill((labels != IGNORED).cumsum(dim=1) > count, IGNORED)


def answered(
    module: ContinualLMM, asked: Sequence[Asked], batch_size: int, processors: Sequence[LogitsProcessor] = ()
) -> list[Example]:
    """Scored greedy answers to rows, task after task; collective, since sharded parameters are gathered for it.

    Args:
        module: that answers.
        asked: the rows.
        batch_size: rows answered at once.
        processors: change the logits of every step.
    """
    found: list[Example] = []
    with module.inference():
        for task in {task.name: task for task, _ in asked}.values():
            rows = [row for owner, row in asked if owner.name == task.name]
            for start in range(0, len(rows), batch_size):
                part = rows[start : start + batch_size]
                batch = module.data.collator.prompts(part).to(module.device)
                said = generate(module.model, module.processor, batch, task.max_new_tokens, processors)
                found += [
                    Example.of(row, answer, task.scorer(answer, row.gold, row.meta))
                    for row, answer in zip(part, said, strict=True)
                ]
    return found


def is_power_of_ten(step: int) -> bool:
    """Whether a step is one of 1, 10, 100, ..."""
    return step > 0 and str(step).strip("0") == "1"


def ever_changed(module: ContinualLMM) -> dict[str, str]:
    """What any task may change of the model as it was loaded, parameter to group, in model order.

    The choice of its recipe: what trains, or what adapters that train in its place are merged into.
    """
    names = {name for task in module.data.tasks for name in module.recipe_of(task).resolve(module.anatomy)}
    return {name: module.anatomy.group_of(name) for name in module.anatomy.numel if name in names}


def head_weights(module: ContinualLMM) -> dict[str, Tensor]:
    """Copies of the output embedding's parameters that any task may change, by name; none where it is frozen."""
    inside = {id(parameter) for parameter in _head(module).parameters()}
    changing = module.parameters_by_name(list(ever_changed(module)))
    return snapshot({name: parameter for name, parameter in changing.items() if id(parameter) in inside})


def head_weight(module: ContinualLMM) -> str:
    """Name of the output embedding's matrix, (vocabulary, width); it may be that of the token embeddings."""
    weight = _head(module).weight
    return next(name for name, parameter in module.parameters_by_name().items() if parameter is weight)


def _head(module: ContinualLMM) -> nn.Module:
    head = module.model.get_output_embeddings()  # type: ignore[operator]  # transformers' models are untyped
    assert isinstance(head, nn.Module)
    return head
