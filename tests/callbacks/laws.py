"""The table of all mitigations, and the runs that hold each of them to the five laws.

The laws, tested for every row by test_laws.py on one process and by test_laws_two_processes.py on two:

1. Strength 0 is plain fine-tuning, bit for bit; strength ∞, where it means something, gives the base weights.
2. Save, load, continue equals uninterrupted, also in the middle of a stage.
3. Frozen tensors, those outside the recipe's groups, have the same bytes after the run.
4. One process, DDP (one row of each kind) and FSDP2 give the same to rounding, also with a recipe that changes between
   tasks.
5. Methods stack: two in one YAML do what each does alone, in the order listed.

A new method passes them by adding one `Row` to `ROWS`. Its arguments are plain values, as YAML writes them. ``at_work``
must be strong enough that the weights differ from plain fine-tuning in the sequence of `law_data` (three tasks of
three steps; what the first two train, the third trains again), and mild enough that training stays smooth: two
processes add in another order, and rounding must stay rounding. Leave ``at_zero`` or ``at_infinity`` None where the
method has no such strength. What a method promises beyond the laws has its own test file.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForImageTextToText
from typing_extensions import override

from lmmcl import ContinualLMM, Mitigation, StageCallback, Task, TaskSequenceDataModule
from lmmcl.adapters.fold import PlainReader
from lmmcl.callbacks import (
    DARE,
    DER,
    EMA,
    EWC,
    GPM,
    L2SP,
    MAS,
    SFA,
    SI,
    TIES,
    Breadcrumbs,
    DataMix,
    DERpp,
    ForgettingBudget,
    LoRA,
    LwF,
    ModelTailor,
    MoE,
    MoELoRA,
    OLoRA,
    Replay,
    TaskArithmetic,
    WiSEFT,
)
from lmmcl.run.run_folder import RunFolder
from lmmcl.scorers.score import Score
from tests.toy import toy_module, toy_task, toy_trainer


@dataclass(frozen=True)
class Row:
    """One method and the strengths at which the laws look at it.

    Args:
        label: of its tests and run folders: letters, digits and hyphens.
        method: the class.
        at_work: arguments with which it changes what plain fine-tuning learns.
        at_zero: arguments with which it changes nothing.
        at_infinity: arguments with which nothing is learned.
    """

    label: str
    method: type[Mitigation]
    at_work: Mapping[str, Any]
    at_zero: Mapping[str, Any] | None = None
    at_infinity: Mapping[str, Any] | None = None

    def make(self, arguments: Mapping[str, Any]) -> Mitigation:
        """The method, under a name that no other row has."""
        return self.method(**arguments, name=self.label)

    @property
    def plain(self) -> bool:
        """Whether plain weights can do what it learns."""
        return self.make(self.at_work).not_plain() is None


ROWS: Sequence[Row] = (
    Row("LwF", LwF, {"weight": 1.0, "temperature": 2.0}, {"weight": 0.0}),
    Row("LwF-all", LwF, {"weight": 1.0, "positions": "all"}, {"weight": 0.0, "positions": "all"}),
    Row("L2SP", L2SP, {"alpha": 0.1}, {"alpha": 0.0}),
    Row("EWC", EWC, {"weight": 100.0, "batches": 2}, {"weight": 0.0}),
    Row("online-EWC", EWC, {"weight": 100.0, "gamma": 0.5, "batches": 2}, {"weight": 0.0, "gamma": 0.5}),
    Row("MAS", MAS, {"weight": 0.1, "batches": 2}, {"weight": 0.0}),
    Row("SI", SI, {"weight": 0.5}, {"weight": 0.0}),
    Row("SFA", SFA, {"beta": 0.3, "p": 0.5}, {"beta": 0.0}, {"beta": 1.0}),
    Row("EMA", EMA, {"rate": 0.4}, {"rate": 1.0}, {"rate": 0.0}),
    Row("WiSEFT", WiSEFT, {"alpha": 0.3}, {"alpha": 0.0}, {"alpha": 1.0}),
    Row("WiSEFT-sweep", WiSEFT, {"alpha": [0.2, 0.4]}, {"alpha": [0.0]}, {"alpha": [1.0]}),
    Row(
        "DataMix",
        DataMix,
        {"data": "general", "ratio": 0.25, "max_samples": "match"},
        {"data": "general", "ratio": 0.0},
    ),
    Row("Replay", Replay, {"buffer": 5, "per_step": 2}, {"buffer": 0}),
    Row(
        "balanced-Replay",
        Replay,
        {"buffer": 0.2, "strategy": "balanced", "begin_with": "general", "begin_samples": 3},
        {"buffer": 0, "strategy": "balanced"},
    ),
    Row("DER", DER, {"alpha": 0.3, "buffer": 5, "top_k": 8, "per_step": 2}, {"alpha": 0.0}),
    Row(
        "DERpp",
        DERpp,
        {"alpha": 0.5, "beta": 0.5, "buffer": 0.2, "begin_with": "general", "begin_samples": 3},
        {"alpha": 0.0, "beta": 0.0},
    ),
    Row("LoRA-merge", LoRA, {"rank": 4, "alpha": 8.0, "dropout": 0.0}),
    Row("LoRA-keep", LoRA, {"rank": 4, "alpha": 8.0, "dropout": 0.0, "at_end": "keep"}),
    Row("OLoRA", OLoRA, {"weight": 0.5, "rank": 4, "alpha": 8.0, "dropout": 0.0}),
    Row("MoE", MoE, {"top_k_eval": 1}),
    Row("MoELoRA", MoELoRA, {"rank": 4, "experts": 2, "alpha": 8.0, "dropout": 0.0}),
    Row(
        "ModelTailor", ModelTailor, {"keep": 0.8, "samples": 4, "damping": 1.0}, {"keep": 1.0}, {"keep": 0.0}
    ),
    Row("TaskArithmetic", TaskArithmetic, {"weight": 0.7}, {"weight": 1.0}, {"weight": 0.0}),
    Row("TIES", TIES, {"keep": 0.9, "weight": 0.8}, None, {"weight": 0.0}),
    Row("DARE", DARE, {"drop": 0.5}, {"drop": 0.0}, {"weight": 0.0}),
    Row(
        "Breadcrumbs",
        Breadcrumbs,
        {"smallest": 0.3, "largest": 0.02, "weight": 0.8},
        {"smallest": 0.0, "largest": 0.0},
        {"weight": 0.0},
    ),
    Row("GPM", GPM, {"epsilon": 0.9, "samples": 6}, {"samples": 0}),
    # Behind all others that change weights at the end of a task.
    Row("ForgettingBudget", ForgettingBudget, {"points": 60.0, "alphas": [0.7]}, {"points": 100.0}),
)
ON_DDP = ("LwF", "EWC", "SI", "WiSEFT-sweep", "Replay", "DERpp", "LoRA-merge", "MoE", "GPM")
"""Rows that law 4 looks at on DDP, too: one of each kind (teacher, importance, path, choice on dev rows, joined rows,
stored logits, adapters, copies, projection). DDP keeps the whole model everywhere; what shards break shows on FSDP2."""
STAGES = ("01-first", "02-second", "03-third")
MIDDLE_OF_THE_LAST_STAGE = 8
ROUNDING = 1e-3
"""The largest `apart` of two runs that differ in the order of their sums."""


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the engine may catch it."""


class Killer(StageCallback):
    """Ends a run before an optimizer step, or when the last task ends.

    Args:
        at: global step, from 0; ``end``; None lets the run be.
    """

    def __init__(self, at: int | str | None) -> None:
        super().__init__()
        self._at = at

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._at:
            raise Killed

    @override
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if self._at == "end" and task.name == "third":
            raise Killed


def law_data() -> TaskSequenceDataModule:
    """Three tasks of three steps with another recipe each; the last trains what either of the others did.

    A held-out task has ``dev`` rows to choose by.
    """
    tasks = [
        toy_task("first", 0, max_train_samples=12),
        toy_task("second", 1, max_train_samples=12, recipe="mlp_gate_up"),
        toy_task("third", 2, max_train_samples=12, recipe=["sa_proj", "mlp_gate_up"]),
    ]
    kept = replace(toy_task("kept", 3), scorer=speaks)
    return TaskSequenceDataModule(tasks, [kept], batch_size=4)


def speaks(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """An ability that the tiny model has and loses in the laws' sequence: to say anything at all."""
    return Score(float(bool(prediction)))


def law_fit(
    checkpoint: Path,
    run: Path,
    callbacks: Iterable[Callback],
    kill_at: int | str | None = None,
    resume: bool = False,
    strategy: str = "auto",
    devices: int = 1,
    every: int = 1,
) -> ContinualLMM:
    """One run of the laws' sequence, up to its end or a kill; resumed from the folder if asked.

    Between tasks and phases it saves, and in a task at every so many steps.
    """
    module = toy_module(checkpoint, run, resume=resume, checkpoint_every_n_steps=every)
    trainer = toy_trainer(callbacks=[*callbacks, Killer(kill_at)], strategy=strategy, devices=devices)
    with contextlib.suppress(Killed):
        trainer.fit(module, law_data())
    return module


def law_weights(run: Path, plain: bool = True) -> dict[str, dict[str, Tensor]]:
    """What each stage of a run wrote; as plain weights, those of adapters are folded into the base model's.

    Where no plain weights can do what a stage does, it is what the stage holds.
    """
    stages = {stage: load_file(run / "stages" / stage / "weights.safetensors") for stage in STAGES}
    return {stage: _plain(run, stage) if plain else held for stage, held in stages.items()}


def _plain(run: Path, stage: str) -> dict[str, Tensor]:
    folder = RunFolder(run)
    lineage = folder.lineage(stage)
    if lineage.get("not_plain"):
        return load_file(run / "stages" / stage / "weights.safetensors")
    base: Mapping[str, Tensor] = {}
    if lineage.get("folds"):
        base = dict(AutoModelForImageTextToText.from_pretrained(lineage["base"]).named_parameters())
    reader = PlainReader(folder.stage_reader(stage), lineage, base)
    biases = {
        name.removesuffix("weight") + "bias" for name in reader.folds
    } & base.keys()  # frozen by adapters
    return {
        name: base[name].detach() if name in biases else reader.read(name) for name in reader.keys() | biases
    }


def law_base(checkpoint: Path, row: Row | None = None) -> dict[str, Tensor]:
    """The base model's tensors, and those that a row adds which is not plain, as its runs begin."""
    return _base(checkpoint, None if row is None or row.plain else row.label)


@cache
def _base(checkpoint: Path, label: str | None) -> dict[str, Tensor]:
    base = dict(AutoModelForImageTextToText.from_pretrained(checkpoint).state_dict())
    if label is None:
        return base
    row = next(row for row in ROWS if row.label == label)
    with TemporaryDirectory() as folder:
        module = law_fit(checkpoint, Path(folder) / "run", [row.make(row.at_work)], kill_at=0)
    return {name: p.detach() for name, p in module.parameters_by_name().items()} | base


def together(rows: Sequence[Row]) -> list[Row]:
    """The rows that can be in one list: each but those that conflict with one before."""
    kept: list[tuple[Row, Mitigation]] = []
    for row in rows:
        method = row.make(row.at_work)
        if not any(method.conflict(other) or other.conflict(method) for _, other in kept):
            kept.append((row, method))
    return [row for row, _ in kept]


def apart(one: Mapping[str, Tensor], other: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> float:
    """Distance of two sets of weights, as a share of how far the second is from where it began.

    No bound on single weights: Adam turns the rounding of a gradient that happens to be near 0 into part of a step.
    """
    assert one.keys() == other.keys()
    distance = math.hypot(*(float((one[name] - other[name]).norm()) for name in one))
    way = math.hypot(*(float((other[name] - before[name]).norm()) for name in one))
    return distance / way


def rows_on(strategy: str) -> Sequence[Row]:
    """The rows that are run on two processes."""
    return ROWS if strategy == "fsdp2" else [row for row in ROWS if row.label in ON_DDP]


def main(strategy: str, checkpoint: Path, out: Path) -> None:
    """The rows of a strategy on two processes, killed in the middle of a stage and resumed."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for row in rows_on(strategy):
        run = out / f"{strategy}-{row.label}"
        how: dict[str, Any] = {"strategy": strategy, "devices": 2, "every": 2}
        law_fit(checkpoint, run, [row.make(row.at_work)], MIDDLE_OF_THE_LAST_STAGE, **how)
        law_fit(checkpoint, run, [row.make(row.at_work)], resume=True, **how)


if __name__ == "__main__":
    # By its importable name, as the other process of a resumed run knows the classes here.
    from tests.callbacks.laws import main as run_all

    with mock.patch("os.fsync"):  # as in conftest.py
        run_all(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
