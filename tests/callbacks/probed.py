"""One run with every probe on, and the same without: made once, looked at by the tests of all probes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from typing_extensions import override

from lmmcl import ContinualLMM, StageCallback
from lmmcl.callbacks import (
    HeldOutEvaluation,
    LayerContribution,
    NumberTokenBias,
    OutputShift,
    SampledAnswers,
    WeightDrift,
)
from lmmcl.evaluation.probe_log import Probe, read_probes
from tests.toy import toy_data, toy_module, toy_trainer
from tests.two_processes import Killed, KillerAtStep


@dataclass(frozen=True)
class Probed:
    """A finished run: its folder, its model as the last task left it, its probes by class."""

    path: Path
    module: ContinualLMM
    probes: dict[type[StageCallback], Any]

    def log(self, name: str) -> Probe:
        """What a probe wrote under a name."""
        return next(probe for probe in read_probes(self.path) if probe.name == name)


class Measured(HeldOutEvaluation):
    """Without the report at the end, which takes longer than the run."""

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes nothing."""


def probes() -> list[StageCallback]:
    """One of each, small; they read the toy tasks."""
    return [
        NumberTokenBias(tasks=["held"], samples=5, batch_size=3),
        OutputShift(samples=6, batch_size=2),
        LayerContribution(samples=4, batch_size=3),
        WeightDrift(matrices=1),
        SampledAnswers(samples=3, tasks=["first", "held"]),
    ]


def probed_fit(
    checkpoint: Path,
    run: Path,
    callbacks: list[StageCallback],
    kill_at: int | None = None,
    resume: bool = False,
) -> ContinualLMM:
    """Two tasks of three steps and a held-out one, measured."""
    measured = Measured(canary_every_n_steps=0)
    module = toy_module(checkpoint, run, resume=resume)
    with contextlib.suppress(Killed):
        toy_trainer(callbacks=[measured, *callbacks, KillerAtStep(kill_at)]).fit(module, toy_data())
    return module


@cache
def probed(checkpoint: Path) -> Probed:
    """The run with all probes; leave its model as it is."""
    looking = probes()
    path = checkpoint.parent / "probed"
    return Probed(path, probed_fit(checkpoint, path, looking), {type(probe): probe for probe in looking})
