"""Runs toy sequences on two gloo processes, one after the other; started by torchrun from test_two_processes.py."""

import contextlib
import logging
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from typing_extensions import override

import lmmcl.token_outputs
from lmmcl import ContinualLMM, Mitigation, StageCallback, Task, TaskSequenceDataModule
from lmmcl.callbacks import HeldOutEvaluation, LwF, WiSEFT
from lmmcl.merge.threshold import kept_values
from lmmcl.weights import local, mix_, snapshot
from tests.toy import toy_data, toy_module, toy_task, toy_trainer


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


class SlowCopy(Mitigation):
    """Pulls the weights towards a moving average of themselves: a state of shards, and a penalty on shards."""

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        self.tensors = snapshot(module.trained_parameters())

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, ContinualLMM)
        if pl_module.sequence.is_new_step(trainer):
            mix_(self.tensors, pl_module.trained_parameters(), 0.5)

    @override
    def weight_penalty(self, name: str, shard: Tensor) -> Tensor:
        return (shard - local(self.tensors[name])).square().sum()


def fit_whole(
    checkpoint: Path, run: Path, strategy: str, devices: int, kill_at: int | None = None, **options: Any
) -> None:
    """Everything trains, then the language model; rows without pictures; logits in several chunks."""
    data = TaskSequenceDataModule(
        [toy_task("first", 0, text=True, recipe="full"), toy_task("second", 1, text=True, recipe="llm")],
        batch_size=8,
        micro_batch_size=2,
    )
    trainer = toy_trainer(
        callbacks=[KillerAtStep(kill_at), SlowCopy(), LwF()], strategy=strategy, devices=devices
    )
    at_once, lmmcl.token_outputs._LOGITS_AT_ONCE = lmmcl.token_outputs._LOGITS_AT_ONCE, 5000
    with contextlib.suppress(Killed):
        trainer.fit(toy_module(checkpoint, run, lr=1e-3, **options), data)
    lmmcl.token_outputs._LOGITS_AT_ONCE = at_once


def equal_values() -> list[Tensor]:
    """Tensors of few magnitudes; of the second one, of a single row, the second process holds nothing."""
    values = torch.randint(-2, 3, (7, 9), generator=torch.Generator().manual_seed(0)).float()
    return [values, values[:1]]


def keep_shards(out: Path) -> None:
    """Keeps a share of each of them, cut by rows as FSDP2 cuts."""
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for place, values in enumerate(equal_values()):
        sharded = distribute_tensor(values, mesh, [Shard(0)])
        torch.save(kept_values(local(sharded), 0.4, sharded), out / f"kept-{place}-{dist.get_rank()}")


def fit_layers(checkpoint: Path, run: Path, strategy: str, devices: int) -> None:
    """In bf16, the second layer and then the first, in which nothing trained while it was measured."""
    tasks = [
        toy_task("first", 0, recipe={"train": "mlp", "layers": "1:"}),
        toy_task("second", 1, recipe={"train": "mlp", "layers": ":1"}),
    ]
    data = TaskSequenceDataModule(tasks, batch_size=8, max_eval_samples=2)
    trainer = toy_trainer(
        callbacks=[HeldOutEvaluation()], strategy=strategy, devices=devices, precision="bf16-mixed"
    )
    trainer.fit(toy_module(checkpoint, run), data)


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
        fit_whole(checkpoint, out / f"{strategy}-whole", strategy, 2)
        fit_whole(checkpoint, out / f"{strategy}-whole-resumed", strategy, 2, kill_at=4)
        fit_whole(checkpoint, out / f"{strategy}-whole-resumed", strategy, 2, resume=True)
    fit_layers(checkpoint, out / "fsdp2-layers", "fsdp2", 2)
    # Begun on one strategy or number of processes, ended on another.
    fit(checkpoint, out / "ddp-to-fsdp2", "ddp", 2, kill_at=5)
    fit(checkpoint, out / "ddp-to-fsdp2", "fsdp2", 2, resume=True)
    fit(checkpoint, out / "fsdp2-to-one", "fsdp2", 2, kill_at=5)
    fit(checkpoint, out / "one-to-fsdp2", "fsdp2", 2, resume=True)
    keep_shards(out)


if __name__ == "__main__":
    # By its importable name, as the other process of a resumed run knows the classes here.
    from tests.two_processes import main as run_all

    run_all(Path(sys.argv[1]), Path(sys.argv[2]))
