"""Runs toy sequences on two gloo processes, one after the other; started by torchrun from test_two_processes.py."""

import contextlib
import logging
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from typing_extensions import override

from lmmcl.callbacks import HeldOutEvaluation, LwF, WiSEFT
from lmmcl.mitigation import StageCallback
from tests.toy import toy_data, toy_module, toy_trainer


class Killed(BaseException):
    """Ends a run in the middle of a stage, on all processes at once."""


class KillerAtStep(StageCallback):
    def __init__(self, step: int | None) -> None:
        super().__init__()
        self._step = step

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._step:
            raise Killed


def fit(
    checkpoint: Path, run: Path, strategy: str, devices: int, kill_at: int | None = None, **options: Any
) -> None:
    """One toy sequence of two tasks with LwF and WiSE-FT on and a recipe that changes between the tasks."""
    callbacks = [KillerAtStep(kill_at), HeldOutEvaluation(canary_every_n_steps=2), LwF(), WiSEFT(alpha=0.3)]
    data = toy_data(micro_batch_size=options.pop("micro_batch_size", None))
    precision = options.pop("precision", "32-true")
    module = toy_module(checkpoint, run, **options)
    trainer = toy_trainer(callbacks=callbacks, strategy=strategy, devices=devices, precision=precision)
    with contextlib.suppress(Killed):
        trainer.fit(module, data)


def main(checkpoint: Path, out: Path) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for strategy in ("ddp", "fsdp2"):
        fit(checkpoint, out / strategy, strategy, 2)
        fit(checkpoint, out / f"{strategy}-accumulated", strategy, 2, micro_batch_size=2)
        fit(checkpoint, out / f"{strategy}-bf16", strategy, 2, precision="bf16-mixed")
        # Killed in the middle of either stage and resumed.
        for step in (2, 5):
            fit(checkpoint, out / f"{strategy}-resumed-{step}", strategy, 2, kill_at=step)
            fit(checkpoint, out / f"{strategy}-resumed-{step}", strategy, 2, resume=True)
    # Begun on one strategy or number of processes, ended on another.
    fit(checkpoint, out / "ddp-to-fsdp2", "ddp", 2, kill_at=5)
    fit(checkpoint, out / "ddp-to-fsdp2", "fsdp2", 2, resume=True)
    fit(checkpoint, out / "fsdp2-to-one", "fsdp2", 2, kill_at=5)
    fit(checkpoint, out / "one-to-fsdp2", "fsdp2", 2, resume=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
