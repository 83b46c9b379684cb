"""What a task of several epochs gains by keeping the features of its rows (`data.cache_features`).

Whole fits with the option and without, in alternation in one run, each with a folder of its own; seconds per epoch as
the trainer serves and trains it, pixels prepared in the main process. Medians over rounds; ratios are medians of the
rounds' own ratios. The tower is as large as the decoder in parameters.

- ``llava``: every patch is a token of the decoder.
- ``shuffled``: nine patches are one token, as in Idefics 3 and SmolVLM, and the tower does most of the work.

    python -m tests.benchmarks.training_features [llava|shuffled] [--rows 64] [--epochs 3] [--rounds 3]
"""

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from transformers import AutoConfig, AutoModelForImageTextToText
from typing_extensions import override

from lmmcl import ContinualLMM, TaskSequenceDataModule
from lmmcl.world.mini import write_skeleton
from tests.benchmarks.machine import machine
from tests.benchmarks.towers import Shape, write_checkpoint, write_rows
from tests.toy import toy_trainer

WIDTH, LAYERS, BATCH = 256, 6, 16


class Epochs(Callback):
    """Seconds of each epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = time.perf_counter()

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        self._ended = time.perf_counter()

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds.append(self._ended - self._began)


def llava(folder: Path) -> Path:
    """A LLaVA whose tower is as wide and deep as its decoder."""
    sizes = {"vision_hidden": WIDTH, "vision_layers": LAYERS, "hidden": WIDTH, "layers": LAYERS}
    write_skeleton(
        folder,
        **sizes,
        vision_heads=WIDTH // 64,
        heads=WIDTH // 64,
        kv_heads=WIDTH // 64,
        intermediate=4 * WIDTH,
    )
    AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


def epochs_of(folder: Path, name: str, options: argparse.Namespace, **data: Any) -> list[float]:
    """Seconds of the epochs of one fit."""
    task = {"task": "rows", "path": str(folder / "rows" / "rows.jsonl"), "scorer": "exact_match"}
    module = ContinualLMM(
        str(folder / "model"), "sa_proj", lr=1e-4, run=folder / name, checkpoint_every_n_steps=10_000
    )
    watch = Epochs()
    device = "gpu" if torch.cuda.is_available() else "cpu"
    precision = "bf16-mixed" if device == "gpu" else "32-true"
    trainer = toy_trainer(callbacks=[watch], accelerator=device, precision=precision)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = TaskSequenceDataModule([{**task, "epochs": options.epochs}], batch_size=BATCH, **data)
        trainer.fit(module, rows)
    return watch.seconds


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("shape", nargs="?", choices=["llava", "shuffled"], default="llava")
    for name, value in (("rows", 64), ("epochs", 3), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    found: list[tuple[float, float, float]] = []
    held = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.shape == "llava":
            llava(folder / "model")
        else:
            write_checkpoint(folder / "model", Shape((WIDTH, LAYERS), (WIDTH, LAYERS)))
        write_rows(folder / "rows", options.rows)
        for turn in range(options.rounds):
            off = epochs_of(folder, f"off-{turn}", options)
            features = folder / f"features-{turn}"
            on = epochs_of(folder, f"on-{turn}", options, cache_features=str(features))
            found.append((statistics.median(off[1:]), on[0], statistics.median(on[1:])))
            held = sum(file.stat().st_size for file in features.iterdir())
            print(f"round {turn + 1}, seconds: off {off}, on {on}", flush=True)
    middle = [statistics.median(column) for column in zip(*found, strict=True)]
    ratios = [[off / one for off, *others in found for one in others[place : place + 1]] for place in (0, 1)]
    print(f"\n| {options.shape} | seconds an epoch | speed, off = 1 |\n|---|---|---|")
    print(f"| off | {middle[0]:.2f} | 1 |")
    for label, seconds, ratio in zip(("on, epoch 1", "on, epochs 2.."), middle[1:], ratios, strict=True):
        print(f"| {label} | {seconds:.2f} | {statistics.median(ratio):.2f} |")
    print(f"\n{options.rows} rows, features {held / 1e6:.1f} MB; {machine('transformers', 'lightning')}")


if __name__ == "__main__":
    main()
