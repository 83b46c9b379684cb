"""What the framework costs: samples per second of `fit` beside a plain hand-written PyTorch loop.

Same model, same batches, same loss, same precision, in alternation in one run; a ratio is the median over rounds. Two
are measured: `fit` doing what the loop does, which is to reach 0.95, and `fit` as `lmmcl fit` runs by default, with
`HeldOutEvaluation`'s canary on a held-out task and a checkpoint every 100 steps. Both write the log. Measuring before
and after the task is not counted: it is no part of a step.

    python -m tests.benchmarks.overhead [--steps 100] [--rounds 5]
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn import functional
from transformers import AutoModelForImageTextToText
from typing_extensions import override

from lmmcl import ContinualLMM, TaskSequenceDataModule
from lmmcl.callbacks import HeldOutEvaluation
from lmmcl.data.batches.batch import IGNORED

BATCH = 32
WARM_UP = 5
STEPS = 100  # as many as between two checkpoints: one falls among them


class Clock(Callback):
    """Seconds from the end of the warm-up to the end of the last step."""

    def __init__(self) -> None:
        self.begin = self.end = 0.0

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == WARM_UP:
            self.begin = time.perf_counter()
        self.end = time.perf_counter()


def data_of(steps: int, held_out: Sequence[str] = ()) -> TaskSequenceDataModule:
    task = {"task": "general", "max_train_samples": (steps + WARM_UP) * BATCH}
    return TaskSequenceDataModule([task], held_out, batch_size=BATCH, max_eval_samples=BATCH)


def framework(steps: int, run: Path, default: bool) -> float:
    """Samples per second of `Trainer.fit` inside the task.

    Args:
        steps: that are timed.
        run: a new folder.
        default: with canary and checkpoints, as `lmmcl fit` runs, or without.
    """
    options: dict[str, Any] = {} if default else {"checkpoint_every_n_steps": 10**6}
    module = ContinualLMM("mini", recipe="full", lr=1e-4, run=run, **options)
    clock = Clock()
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        precision="bf16-mixed",
        gradient_clip_val=1.0,
        callbacks=[HeldOutEvaluation(), clock] if default else [clock],
        **quiet,
    )
    trainer.fit(module, data_of(steps, ["chart"] if default else []))
    return steps * BATCH / (clock.end - clock.begin)


def plain(steps: int) -> float:
    """Samples per second of the loop one would write by hand."""
    from lmmcl.loading import Checkpoint

    checkpoint = Checkpoint("mini")
    data = data_of(steps)
    data.attach(checkpoint.processor(), 512)
    data.begin(0, data.train_rows(0), 0, 0)
    model: Any = AutoModelForImageTextToText.from_pretrained(
        checkpoint.location, dtype=torch.float32, attn_implementation="eager"
    ).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0, fused=True)
    begin = 0.0
    for step, batch in enumerate(data.loader(0, 1)):
        assert batch.labels is not None
        if step == WARM_UP:
            begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model.model(**batch.inputs, use_cache=False).last_hidden_state
            keep = batch.labels[:, 1:] != IGNORED
            logits = model.lm_head(hidden[:, :-1][keep])
            loss = functional.cross_entropy(logits.float(), batch.labels[:, 1:][keep])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return steps * BATCH / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    steps = arguments.steps
    ratios: dict[str, list[float]] = {"fit": [], "fit by default": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(arguments.rounds):
            ways: dict[str, Callable[[], float]] = {
                "fit": partial(framework, steps, Path(folder) / f"{turn}", False),
                "plain loop": partial(plain, steps),
                "fit by default": partial(framework, steps, Path(folder) / f"{turn}-default", True),
            }
            # Whoever goes later finds warmer caches: they take turns.
            order = [*ways][turn % len(ways) :] + [*ways][: turn % len(ways)]
            speeds = {name: ways[name]() for name in order}
            for name, values in ratios.items():
                values.append(speeds[name] / speeds["plain loop"])
            said = ", ".join(f"{name} {speeds[name]:.1f}" for name in ways)
            print(f"round {turn + 1}, samples/s: {said}", flush=True)
    for name, values in ratios.items():
        print(f"{name} / plain loop, median of {arguments.rounds} rounds: {statistics.median(values):.3f}")
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {steps} steps of {BATCH} samples a round"
    )


if __name__ == "__main__":
    main()
