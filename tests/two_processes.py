"""Runs toy sequences on two gloo processes, one after the other; started by torchrun from test_two_processes.py."""

import contextlib
import json
import logging
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import Strategy
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from typing_extensions import override

import lmmcl.outputs.token_outputs
from lmmcl import ContinualLMM, Mitigation, StageCallback, Task, TaskSequenceDataModule
from lmmcl.callbacks import HeldOutEvaluation, LwF, WiSEFT, held_out_evaluation
from lmmcl.errors import UserError
from lmmcl.loading import Checkpoint
from lmmcl.merge.threshold import kept_values
from lmmcl.parallel.shard_loading import fill_, load_once, take_values
from lmmcl.parallel.strategy import settle
from lmmcl.weights import local, mix_, snapshot, whole
from lmmcl.window import Window, apply_weight_penalties
from tests.toy import toy_module, toy_task, toy_trainer

CHANGES = [("ddp", "fsdp2"), ("ddp", "one"), ("fsdp2", "one"), ("one", "ddp"), ("one", "fsdp2")]
"""Strategies on which a run is begun and ended; one process or two."""
LAYOUT = ("micro_batch_size", "micro_batch_tokens", "packing")
"""Arguments of the data that `fit` takes."""
LONGEST_ANSWER, SHORT = 24, 4
"""Tokens of an answer at most; the short ones where nobody looks at the answers."""
EVERY = {"checkpoint_every_n_steps": 2}
"""Of three steps of a task; the kills come behind the second."""


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
    checkpoint: Path,
    run: Path,
    strategy: str | Strategy,
    devices: int,
    kill_at: int | None = None,
    longest: int = LONGEST_ANSWER,
    **options: Any,
) -> None:
    """One toy sequence of two tasks with LwF and WiSE-FT on and a recipe that changes between the tasks."""
    callbacks = [KillerAtStep(kill_at), HeldOutEvaluation(canary_every_n_steps=2), LwF(), WiSEFT(alpha=0.3)]
    tasks = [toy_task("first", 0), toy_task("second", 1, recipe="mlp_gate_up")]
    # Of seven rows, some are answered at once by the end of the turn and others by as many words as there may be.
    held = replace(toy_task("held", 2), max_new_tokens=longest)
    layout = {key: options.pop(key) for key in LAYOUT if key in options}
    data = TaskSequenceDataModule(tasks, [held], batch_size=8, **layout)
    precision = options.pop("precision", "32-true")
    module = toy_module(checkpoint, run, **EVERY, **options)
    trainer = toy_trainer(callbacks=callbacks, strategy=strategy, devices=devices, precision=precision)
    # Half of the time of such a run would be the drawing of its report, at which nobody here looks.
    with contextlib.suppress(Killed), mock.patch.object(held_out_evaluation, "write_artefacts"):
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
    at_once, lmmcl.outputs.token_outputs._LOGITS_AT_ONCE = lmmcl.outputs.token_outputs._LOGITS_AT_ONCE, 5000
    with contextlib.suppress(Killed):
        trainer.fit(toy_module(checkpoint, run, lr=1e-3, **EVERY, **options), data)
    lmmcl.outputs.token_outputs._LOGITS_AT_ONCE = at_once


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


class OnRows(Mitigation):
    """A penalty on one parameter where this process has rows of it, and none elsewhere."""

    @override
    def weight_penalty(self, name: str, shard: Tensor) -> Tensor | None:
        return shard.square().sum() if name == self.name and len(shard) else None


def penalise_shards(out: Path) -> None:
    """Penalties that only one process has, on parameters with and without a gradient; nobody penalises the last."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    rows = {"of one": 1, "of one, without a gradient": 1, "of both": 4, "of none": 4}
    parameters = {
        name: nn.Parameter(distribute_tensor(torch.arange(3.0 * n).view(n, 3), mesh, [Shard(0)]))
        for name, n in rows.items()
    }
    parameters["of one"].grad = torch.ones_like(parameters["of one"])
    window = Window()
    window.begin(1, torch.device("cpu"))
    window.add({"loss": torch.ones(())}, 1, 1)
    mitigations = [*(OnRows(name) for name in rows if name != "of none"), OnRows("of nothing")]
    means = window.means(apply_weight_penalties(mitigations, parameters), True, 1)
    gradients = {n: None if p.grad is None else whole(p.grad).tolist() for n, p in parameters.items()}
    seen = {"means": {name: float(value) for name, value in means.items()}, "gradients": gradients}
    (out / f"penalties-{dist.get_rank()}.json").write_text(json.dumps(seen))


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
    with mock.patch.object(held_out_evaluation, "write_artefacts"):
        trainer.fit(toy_module(checkpoint, run, **EVERY), data)


def fit_kept(checkpoint: Path, run: Path, features: Path) -> None:
    """On shards, two epochs whose rows keep their features, some of them without a picture."""
    task = toy_task("first", 0, text=True, epochs=2, max_train_samples=10)
    data = TaskSequenceDataModule([task], batch_size=8, cache_features=str(features))
    trainer = toy_trainer(callbacks=[LwF()], strategy="fsdp2", devices=2)
    trainer.fit(toy_module(checkpoint, run, **EVERY), data)


def keep_rows(checkpoint: Path, out: Path) -> None:
    """Trains with features of rows: none is there, then some are; writes which there were."""
    features = out / "features"
    fit_kept(checkpoint, out / "kept-cold", features)
    if dist.get_rank() == 0:
        made = sorted(features.iterdir())
        for file in made[::3]:
            file.unlink()
        left = {file.name: file.stat().st_ino for file in made if file.exists()}
        (out / "kept.json").write_text(json.dumps({"made": [file.name for file in made], "left": left}))
    dist.barrier()
    fit_kept(checkpoint, out / "kept-warm", features)


class Everything(nn.Module):
    """Layers for either way of cutting, of odd sizes, tied weights, and tensors that no state dict holds."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(13, 8), nn.Linear(8, 13, bias=False)
        self.up, self.down = nn.Linear(8, 13), nn.Linear(13, 8)
        self.head.weight = self.embed.weight
        self.register_buffer("angles", torch.randn(5), persistent=False)
        self.scale = torch.randn(())


def differing(model: nn.Module, expected: nn.Module) -> list[str]:
    """Names of tensors that are not the same to the byte; collective."""
    mine = {name: whole(p) for name, p in model.named_parameters()} | dict(model.named_buffers())
    other = {**dict(expected.named_parameters()), **dict(expected.named_buffers())}
    assert mine.keys() == other.keys()
    return [name for name in mine if not torch.equal(mine[name], other[name])]


def load_shards(checkpoint: Path, out: Path) -> None:
    """Loads a checkpoint into shards, and a small model into shards over two dimensions; writes what was seen."""
    world = dist.get_world_size()
    load = Checkpoint.model
    with mock.patch.object(Checkpoint, "model", autospec=True, side_effect=load) as opened:
        model = load_once(Checkpoint(str(checkpoint)), True, 0, "eager")
    seen: dict[str, Any] = {
        "opened": opened.call_count,
        "meta": all(p.is_meta for p in model.parameters()),
        "end": model.generation_config.eos_token_id,  # type: ignore[union-attr]
    }
    values = take_values(model)
    seen["taken"] = len(values)
    root = fully_shard(model, mesh=init_device_mesh("cpu", (world,)))
    fill_(model, values, torch.device("cpu"))
    settle(root)
    seen["checkpoint"] = differing(model, load(Checkpoint(str(checkpoint)), True, 0, "eager"))

    try:
        load_once(Checkpoint(str(out / "nowhere")), True, 0, "eager")
    except UserError as error:
        seen["error"] = str(error)

    torch.manual_seed(0)
    expected = Everything()
    with torch.device("cpu" if dist.get_rank() == 0 else "meta"):
        torch.manual_seed(0)
        cut = Everything()
    values = take_values(cut)
    mesh = init_device_mesh("cpu", (1, world), mesh_dim_names=("rows", "cut"))
    parallelize_module(cut, mesh["cut"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
    root = fully_shard(cut, mesh=mesh["rows"])
    fill_(cut, values, torch.device("cpu"))
    settle(root)
    seen["cut"] = differing(cut, expected)
    seen["attribute"] = torch.equal(cut.scale, expected.scale)
    seen["tied"] = cut.head.weight is cut.embed.weight
    (out / f"loading-{dist.get_rank()}.json").write_text(json.dumps(seen))


def main(checkpoint: Path, out: Path) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for strategy in ("ddp", "fsdp2"):
        fit(checkpoint, out / strategy, strategy, 2)
        fit(checkpoint, out / f"{strategy}-accumulated", strategy, 2, longest=SHORT, micro_batch_size=2)
        packed = {"micro_batch_tokens": 60, "packing": True}
        fit(checkpoint, out / f"{strategy}-packed", strategy, 2, longest=SHORT, **packed)
        fit(checkpoint, out / f"{strategy}-bf16", strategy, 2, longest=SHORT, precision="bf16-mixed")
        # Killed in the middle of both stages and resumed.
        run = out / f"{strategy}-resumed"
        fit(checkpoint, run, strategy, 2, kill_at=2, longest=SHORT)
        fit(checkpoint, run, strategy, 2, resume=True, kill_at=5, longest=SHORT)
        copy_run(run, out / f"{strategy}-killed")
        fit(checkpoint, run, strategy, 2, resume=True, longest=SHORT)
        fit_whole(checkpoint, out / f"{strategy}-whole", strategy, 2)
        fit_whole(checkpoint, out / f"{strategy}-whole-resumed", strategy, 2, kill_at=5)
        fit_whole(checkpoint, out / f"{strategy}-whole-resumed", strategy, 2, resume=True)
    fit_layers(checkpoint, out / "fsdp2-layers", "fsdp2", 2)
    # Begun on one strategy or number of processes, ended on another.
    for before, after in CHANGES:
        if after != "one":
            copy_run(out / f"{before}-killed", out / f"{before}-to-{after}")
            fit(checkpoint, out / f"{before}-to-{after}", after, 2, resume=True, longest=SHORT)
    keep_rows(checkpoint, out)
    load_shards(checkpoint, out)
    keep_shards(out)
    penalise_shards(out)


def copy_run(run: Path, to: Path) -> None:
    """Copies a run that was killed, once."""
    if not dist.is_initialized() or dist.get_rank() == 0:
        shutil.copytree(run, to)
    if dist.is_initialized():
        dist.barrier()


if __name__ == "__main__":
    # By its importable name, as the other process of a resumed run knows the classes here.
    from tests.two_processes import main as run_all

    with mock.patch("os.fsync"):  # as in conftest.py
        run_all(Path(sys.argv[1]), Path(sys.argv[2]))
