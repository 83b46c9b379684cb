"""What a checkpoint weighs, and for how long training stands still while it is written.

    python -m tests.benchmarks.checkpoints [--hidden 768] [--layers 8] [--steps 24] [--every 6] [--rounds 3]

Size: ``last`` of ``sa_proj`` at the shapes of LLaVA-OneVision with Qwen2-7B, beside Lightning's own checkpoint of full
tuning with fp32 masters, from the shapes of all tensors; that the sum is right is proven on files of a small model,
with and without LwF and WiSEFT. Exits with 1 above 12 %, or where the two make it larger.

Stall: a language model whose checkpoint is a few hundred MB is trained without checkpoints, with them as they are, and
with a wait for each, in alternation; the time that a save adds to the run, by its steps' medians and in sum.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, LlavaOnevisionConfig, Qwen2Config, SiglipVisionConfig
from typing_extensions import override

from lmmcl import ContinualLMM, TaskSequenceDataModule
from lmmcl.callbacks import LwF, WiSEFT
from lmmcl.run.saver import Saver
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.recipe import Recipe
from lmmcl.tensor_layout import header
from tests.benchmarks.machine import machine
from tests.killed_runs import quiet_lightning
from tests.tiny import tiny_checkpoint
from tests.toy import SIZES, toy_module, toy_task, toy_trainer

Shapes = Mapping[str, tuple[int, ...]]


def ours(trained: Shapes) -> int:
    """Bytes of the tensor file of a checkpoint inside a task: master and two moments in fp32, a count of steps."""
    tensors = {f"model/{name}": (torch.float32, shape) for name, shape in trained.items()}
    for name, shape in trained.items():
        for moment in ("exp_avg", "exp_avg_sq"):
            tensors[f"optimizer/{name}/{moment}"] = (torch.float32, shape)
        tensors[f"optimizer/{name}/step"] = (torch.float32, ())
    return len(header(tensors)) + sum(4 * torch.Size(shape).numel() for _, shape in tensors.values())


def lightnings(shapes: Shapes) -> int:
    """Bytes of the values in Lightning's checkpoint of full tuning: master, two moments, steps; names come on top."""
    return sum(12 * torch.Size(shape).numel() + 4 for shape in shapes.values())


class Inside(Callback):
    """Weighs the newest checkpoint inside the second task."""

    def __init__(self) -> None:
        self.tensors = self.manifest = 0
        self.trained: Shapes = {}

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, ContinualLMM)
        position = pl_module.sequence.position
        if (position.stage, position.step) != (2, 2):
            return
        pl_module.sequence.saver.wait()
        newest = max(pl_module.sequence.run.last.iterdir())
        self.tensors = (newest / "process-00000.safetensors").stat().st_size
        self.manifest = (newest / "manifest.json").stat().st_size
        self.trained = {name: tuple(p.shape) for name, p in pl_module.trained_parameters().items()}


class Full(LightningModule):
    """Full tuning as Lightning saves it; one step, so that the optimizer has its moments."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @override
    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return sum((p.float().square().sum() for p in self.parameters()), torch.zeros(()))

    @override
    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters())


def weighed(folder: Path) -> bool:
    """Prints the sizes; whether they are as promised."""
    checkpoint = tiny_checkpoint(folder / "tiny")
    found = {}
    for name, callbacks in {
        "plain": [],
        "with LwF and WiSEFT": [LwF(), WiSEFT(measure_before=False)],
    }.items():
        inside = Inside()
        data = TaskSequenceDataModule([toy_task("first", 0), toy_task("second", 1)], batch_size=8)
        toy_trainer(callbacks=[*callbacks, inside]).fit(toy_module(checkpoint, folder / name), data)
        found[name] = inside
        print(
            f"small model, {name}: {inside.tensors} bytes of tensors (foretold {ours(inside.trained)}), "
            f"{inside.manifest} of manifest"
        )
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32)
    trainer = toy_trainer(max_steps=1, enable_checkpointing=False)
    trainer.fit(Full(model), torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(1))))
    trainer.save_checkpoint(folder / "lightning.ckpt")
    theirs = (folder / "lightning.ckpt").stat().st_size
    least = lightnings({name: tuple(p.shape) for name, p in model.named_parameters()})
    print(f"small model, Lightning's of full tuning: {theirs} bytes, {least} of them values as foretold")

    large = _shapes_of_7b()
    chosen = Recipe.parse("sa_proj").resolve(Anatomy.of(large))
    shapes = {name: tuple(p.shape) for name, p in large.named_parameters()}
    mine, full = ours({name: shapes[name] for name in chosen}), lightnings(shapes)
    print(
        f"Qwen2-7B, sa_proj: {mine / 1e9:.2f} GB, Lightning's of full tuning {full / 1e9:.2f} GB: {mine / full:.1%}"
    )
    right = all(inside.tensors == ours(inside.trained) for inside in found.values()) and theirs >= least
    return right and mine <= 0.12 * full


def _shapes_of_7b() -> nn.Module:
    text = Qwen2Config(
        vocab_size=152064,
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        tie_word_embeddings=False,
    )
    vision = SiglipVisionConfig(
        hidden_size=1152,
        intermediate_size=4304,
        num_hidden_layers=26,
        num_attention_heads=16,
        patch_size=14,
        image_size=384,
    )
    config = LlavaOnevisionConfig(text_config=text, vision_config=vision, tie_word_embeddings=False)
    with torch.device("meta"):
        model: nn.Module = AutoModelForImageTextToText.from_config(config)
    return model


class Clock(Callback):
    """Seconds of every optimizer step, what is saved after it included; of the first ones nothing is kept."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._mark = 0.0

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        if trainer.global_step > 1:
            self.seconds.append(now - self._mark)
        self._mark = now


def steps(checkpoint: Path, run: Path, every: int, wait: bool) -> tuple[list[float], int]:
    """Seconds of each step, and bytes of a checkpoint."""
    clock, start = Clock(), Saver.start

    def waiting(self: Saver, folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        start(self, folder, tensors, state)
        self.wait()

    if wait:
        Saver.start = waiting  # type: ignore[method-assign]
    try:
        data = TaskSequenceDataModule([toy_task("first", 0)], batch_size=8)
        module = toy_module(checkpoint, run, recipe="llm", lr=1e-4, checkpoint_every_n_steps=every)
        toy_trainer(callbacks=[clock]).fit(module, data)
    finally:
        Saver.start = start  # type: ignore[method-assign]
    stage = next(run.glob("stages/01*/weights.safetensors"))
    with safe_open(stage, "pt") as file:
        values = sum(torch.Size(file.get_slice(key).get_shape()).numel() for key in file.keys())
    return clock.seconds, 12 * values


def stalls(folder: Path, words: argparse.Namespace) -> None:
    """Prints what saves cost."""
    checkpoint = tiny_checkpoint(folder / "large", hidden=words.hidden, layers=words.layers)
    SIZES["train"] = 8 * words.steps
    modes = {"none": (10**6, False), "as they are": (words.every, False), "waited for": (words.every, True)}
    found: dict[str, list[list[float]]] = {name: [] for name in modes}
    size, numbers = 0, itertools.count()
    for _ in range(words.rounds):
        for name, (every, wait) in modes.items():
            seconds, size = steps(checkpoint, folder / f"run{next(numbers)}", every, wait)
            found[name].append(seconds)
    saves = len(range(words.every, words.steps, words.every))
    plain = statistics.median(sum(seconds) for seconds in found["none"])
    step = statistics.median(s for seconds in found["none"] for s in seconds)
    print(
        f"a checkpoint of {size / 1e6:.0f} MB at every {words.every} of {words.steps} steps of {step * 1e3:.0f} ms"
    )
    added = {}
    for name in ("as they are", "waited for"):
        added[name] = (statistics.median(sum(seconds) for seconds in found[name]) - plain) / saves
        at = [s for seconds in found[name] for s in _after_saves(seconds, words.every)]
        print(
            f"  {name}: {added[name] * 1e3:.0f} ms a save in sum, {(statistics.median(at) - step) * 1e3:.0f} ms of "
            "them before the next step begins"
        )
    print(f"  as they are / waited for: {added['as they are'] / added['waited for']:.2f}")


def _after_saves(seconds: list[float], every: int) -> Iterator[float]:
    """Steps at whose end a checkpoint was saved; the first that was kept is step 2."""
    yield from (s for step, s in enumerate(seconds, start=2) if step % every == 0)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in {"hidden": 768, "layers": 8, "steps": 24, "every": 6, "rounds": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--folder", type=Path)
    words = parser.parse_args()
    quiet_lightning()
    with tempfile.TemporaryDirectory(dir=words.folder) as name:
        right = weighed(Path(name))
        stalls(Path(name), words)
    print(machine("lightning", "transformers"))
    return not right


if __name__ == "__main__":
    sys.exit(main())
