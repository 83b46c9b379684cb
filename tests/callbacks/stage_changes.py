"""What each task of the laws' sequence began with and ended with, before and after what acts at its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch import Trainer
from torch import Tensor
from typing_extensions import override

from lmmcl import ContinualLMM, Mitigation, StageCallback, Task
from tests.callbacks.laws import law_fit

Weights = dict[str, Tensor]


class Watch(StageCallback):
    """Keeps copies of the trained tensors; list it before what acts at the end of a task."""

    def __init__(self) -> None:
        super().__init__()
        self.starts: list[Weights] = []
        self.ends: list[Weights] = []
        self.afters: list[Weights] = []

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        self.starts.append(self._now(module))

    @override
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        self.ends.append(self._now(module))

    @override
    def on_stage_end(
        self, trainer: Trainer, module: ContinualLMM, task: Task | None, scores: Mapping[str, float]
    ) -> None:
        if task is not None:
            self.afters.append(self._now(module))

    def _now(self, module: ContinualLMM) -> Weights:
        return {name: p.detach().clone() for name, p in module.trained_parameters().items()}


def watched(checkpoint: Path, run: Path, mitigation: Mitigation) -> Watch:
    """One run of the laws' sequence."""
    watch = Watch()
    law_fit(checkpoint, run, [watch, mitigation])
    return watch
