"""The table of all mitigations, and the runs that hold each of them to the five laws.

The laws, tested for every row by test_laws.py on one process and by test_laws_two_processes.py on two:

1. Strength 0 is plain fine-tuning, bit for bit; strength ∞, where it means something, gives the base weights.
2. Save, load, continue equals uninterrupted, also in the middle of a stage.
3. Frozen tensors, those outside the recipe's groups, have the same bytes after the run.
4. One process, DDP and FSDP2 give the same to rounding, also with a recipe that changes between tasks.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors.torch import load_file
from torch import Tensor
from typing_extensions import override

from lmmcl import ContinualLMM, Mitigation, StageCallback, Task, TaskSequenceDataModule
from lmmcl.callbacks import EMA, EWC, L2SP, MAS, SFA, SI, LwF, WiSEFT
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


ROWS: Sequence[Row] = (
    Row("LwF", LwF, {"weight": 1.0, "temperature": 2.0}, {"weight": 0.0}),
    Row("L2SP", L2SP, {"alpha": 0.1}, {"alpha": 0.0}),
    Row("EWC", EWC, {"weight": 100.0, "batches": 2}, {"weight": 0.0}),
    Row("online-EWC", EWC, {"weight": 100.0, "gamma": 0.5, "batches": 2}, {"weight": 0.0, "gamma": 0.5}),
    Row("MAS", MAS, {"weight": 0.1, "batches": 2}, {"weight": 0.0}),
    Row("SI", SI, {"weight": 0.5}, {"weight": 0.0}),
    Row("SFA", SFA, {"beta": 0.3, "p": 0.5}, {"beta": 0.0}, {"beta": 1.0}),
    Row("EMA", EMA, {"rate": 0.4}, {"rate": 1.0}, {"rate": 0.0}),
    Row("WiSEFT", WiSEFT, {"alpha": 0.3}, {"alpha": 0.0}, {"alpha": 1.0}),
)
STAGES = ("01-first", "02-second", "03-third")
MIDDLE_OF_THE_LAST_STAGE = 7
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
    """Three tasks of three steps with another recipe each; the last trains what either of the others did."""
    tasks = [
        toy_task("first", 0, max_train_samples=12),
        toy_task("second", 1, max_train_samples=12, recipe="mlp_gate_up"),
        toy_task("third", 2, max_train_samples=12, recipe=["sa_proj", "mlp_gate_up"]),
    ]
    return TaskSequenceDataModule(tasks, batch_size=4)


def law_fit(
    checkpoint: Path,
    run: Path,
    callbacks: Iterable[Callback],
    kill_at: int | str | None = None,
    resume: bool = False,
    strategy: str = "auto",
    devices: int = 1,
) -> ContinualLMM:
    """One run of the laws' sequence, up to its end or a kill; resumed from the folder if asked."""
    module = toy_module(checkpoint, run, resume=resume)
    trainer = toy_trainer(callbacks=[*callbacks, Killer(kill_at)], strategy=strategy, devices=devices)
    with contextlib.suppress(Killed):
        trainer.fit(module, law_data())
    return module


def law_weights(run: Path) -> dict[str, dict[str, Tensor]]:
    """What each stage of a run wrote."""
    return {stage: load_file(run / "stages" / stage / "weights.safetensors") for stage in STAGES}


def apart(one: Mapping[str, Tensor], other: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> float:
    """Distance of two sets of weights, as a share of how far the second is from where it began.

    No bound on single weights: Adam turns the rounding of a gradient that happens to be near 0 into part of a step.
    """
    assert one.keys() == other.keys()
    distance = math.hypot(*(float((one[name] - other[name]).norm()) for name in one))
    way = math.hypot(*(float((other[name] - before[name]).norm()) for name in one))
    return distance / way


def main(strategy: str, checkpoint: Path, out: Path) -> None:
    """Every row on two processes, killed in the middle of a stage and resumed."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for row in ROWS:
        run = out / f"{strategy}-{row.label}"
        killed = MIDDLE_OF_THE_LAST_STAGE
        law_fit(checkpoint, run, [row.make(row.at_work)], killed, strategy=strategy, devices=2)
        law_fit(checkpoint, run, [row.make(row.at_work)], resume=True, strategy=strategy, devices=2)


if __name__ == "__main__":
    # By its importable name, as the other process of a resumed run knows the classes here.
    from tests.callbacks.laws import main as run_all

    run_all(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
