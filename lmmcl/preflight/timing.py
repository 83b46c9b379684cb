"""Hours of training and of evaluation, from a few real steps and answers on the device at hand."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from lmmcl.building.masters import hold_masters
from lmmcl.data.batches.order import subset
from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.evaluation.generate import generate
from lmmcl.foreseen import foresee
from lmmcl.losses import cross_entropy
from lmmcl.model import ContinualLMM
from lmmcl.optim.optimizer import optimizer_of
from lmmcl.optim.trained_bytes import rounding_of
from lmmcl.outputs.forward import AnswerForward
from lmmcl.preflight.adapters import Adapted
from lmmcl.preflight.finding import Finding
from lmmcl.preflight.memory import Place
from lmmcl.preflight.steps import measured_rows
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.recomputed import parts_of, recompute
from lmmcl.weights import parameters_of

_STEPS = 3
"""Optimizer steps of each task; the first one warms up and is not counted."""


@dataclass(frozen=True)
class Pace:
    """Seconds on one device.

    Args:
        steps: of one optimizer step, by target.
        answers: of one answer, in batches, by task.
    """

    steps: Mapping[str, float]
    answers: Mapping[str, float]


class _Rehearsal:
    """The model with its weights on a device, ready for steps and answers."""

    def __init__(
        self, module: ContinualLMM, data: TaskSequenceDataModule, place: Place, device: torch.device
    ) -> None:
        self.module, self.data, self.place, self.device = module, data, place, device
        attention = module.hparams["attn_implementation"] or ("eager" if device.type == "cpu" else None)
        model: Any = module.checkpoint.model(not place.bf16, module.hparams["seed"], attention)
        self.model = model
        anatomy = Anatomy.of(self.model)
        self.adapted = Adapted(module, data, self.model, anatomy, place.mitigations)
        self.trained = self.adapted.trained
        ever = {name for names in self.trained for name in names}
        dtype = torch.float32 if rounding_of(module.hparams) is None else torch.bfloat16
        hold_masters(self.model, ever, not place.bf16, dtype)
        self.model.to(device)
        self.forwards = AnswerForward(self.model, place.bf16)
        recompute(self.model, anatomy, ever, parts_of(place.checkpointing))
        data.attach(module.processor, module.max_length)

    def step(self, index: int) -> float:
        """Seconds of an optimizer step of a task: batches, forwards, backwards, update; of mitigations the rows alone.

        The rows are those that mitigations will choose, in the order of the run.
        """
        names = self.trained[index]
        self.adapted.arrange(index + 1, self.device)
        for name, parameter in parameters_of(self.model).items():
            parameter.requires_grad_(name in names)
        self.model.train()
        parameters = {name: p for name, p in parameters_of(self.model).items() if name in names}
        # At a rate of 0 the weights stay as they are, and every task is timed on the same ones.
        optimizer = optimizer_of(self.module.hparams, parameters, dict.fromkeys(parameters, 0.0), "preflight")
        ahead = foresee(self.data, index, self.place.mitigations)
        self.data.begin(index, ahead.rows, 0, 0, ahead.joined)
        each = self.data.steps.forwards(self.data.tasks[index], self.place.shares, ahead.joined)
        batches = iter(self.data.loader(0, self.place.shares))
        taken: list[float] = []
        while len(taken) < _STEPS:
            start = time.perf_counter()
            window = list(islice(batches, each))
            if not window:
                break
            for batch in (batch for batch in window if not batch.idle):
                with self.forwards.autocast():
                    loss = self.forwards.token_outputs(batch.to(self.device)).map(cross_entropy).sum()
                loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            self._wait()
            taken.append(time.perf_counter() - start)
        timed = taken[1:] or taken
        return sum(timed) / len(timed)

    def answer(self, task: Task, batch_size: int) -> float:
        """Seconds of an answer to one of a task's rows, in a batch."""
        rows = self.data.eval_rows(task)
        chosen = subset([0] * len(rows), batch_size, task.name, "preflight", "timing")
        start = time.perf_counter()
        batch = self.data.collator.prompts([rows[place] for place in chosen])
        with self.forwards.inference():
            generate(self.model, self.module.processor, batch.to(self.device), task.max_new_tokens)
        self._wait()
        return (time.perf_counter() - start) / len(chosen)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def measure_pace(
    module: ContinualLMM, data: TaskSequenceDataModule, place: Place, device: torch.device, batch_size: int
) -> Pace:
    """Loads the weights and times a few steps of every target and one batch of answers of every task.

    Args:
        module: not built.
        data: the tasks.
        place: where the run will take place; the device does one process's share of it.
        device: where to measure.
        batch_size: prompts answered at once.
    """
    rehearsal = _Rehearsal(module, data, place, device)
    tasks = [*data.tasks, *data.held_out]
    rehearsal.answer(tasks[0], min(batch_size, 2))  # warms up
    answers = {task.name: rehearsal.answer(task, batch_size) for task in tasks}
    steps = {task.name: rehearsal.step(index) for index, task in enumerate(data.tasks)}
    return Pace(steps, answers)


def check_time(
    module: ContinualLMM, data: TaskSequenceDataModule, place: Place, device: torch.device, batch_size: int
) -> Iterator[Finding]:
    """Two lines: how long training will take, and how long evaluation; a warning where nothing could be timed."""
    try:
        pace = measure_pace(module, data, place, device, batch_size)
    except torch.OutOfMemoryError:
        text = f"not timed: the model does not fit one {device.type} device, as a few steps on it would need"
        yield Finding("warning", "time", "", text)
        return
    except UserError as error:
        yield Finding("failure", "time", "", str(error))
        return
    training = {
        task.name: pace.steps[task.name] * foresee(data, index, place.mitigations).steps
        for index, task in enumerate(data.tasks)
    }
    stages = len(data.tasks) + 1
    evaluation = {
        task.name: pace.answers[task.name] * measured_rows(data, task) * stages / place.shares
        for task in (*data.tasks, *data.held_out)
    }
    mitigations = ", of mitigations only their rows," if place.mitigations else ""
    shared = f", each of {place.world} devices doing its share" if place.world > 1 else ""
    for what, parts in ((f"training{mitigations}", training), (f"evaluation ({stages} times)", evaluation)):
        listed = ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts.items())
        text = f"{what} about {duration(sum(parts.values()))} on {device.type}{shared}: {listed}"
        yield Finding("ok", "time", "", text)


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
