"""What the framework costs: samples per second of `fit` beside a plain hand-written PyTorch loop.

Same model, same batches, same loss, same precision, in alternation in one run; the ratio is the median over rounds.

    python -m tests.benchmarks.overhead [--steps 60] [--rounds 5]
"""

import argparse
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn import functional
from transformers import AutoModelForImageTextToText
from typing_extensions import override

from lmmcl import ContinualLMM, TaskSequenceDataModule
from lmmcl.data.batch import IGNORED

BATCH = 32
WARM_UP = 5


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


def data_of(steps: int) -> TaskSequenceDataModule:
    rows = (steps + WARM_UP) * BATCH
    return TaskSequenceDataModule([{"task": "general", "max_train_samples": rows}], batch_size=BATCH)


def framework(steps: int, run: Path) -> float:
    """Samples per second of `Trainer.fit` inside the task."""
    module = ContinualLMM("mini", recipe="full", lr=1e-4, run=run, checkpoint_every_n_steps=10**6)
    clock = Clock()
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        precision="bf16-mixed",
        gradient_clip_val=1.0,
        callbacks=[clock],
        **quiet,
    )
    trainer.fit(module, data_of(steps))
    return steps * BATCH / (clock.end - clock.begin)


def plain(steps: int) -> float:
    """Samples per second of the loop one would write by hand."""
    from lmmcl.loading import Checkpoint

    checkpoint = Checkpoint("mini")
    data = data_of(steps)
    data.attach(checkpoint.processor(), 512)
    data.begin(0, data.train_rows(0), 0, 0)
    model: Any = AutoModelForImageTextToText.from_pretrained(checkpoint.location, dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0)
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(arguments.rounds):
            # Whoever goes second finds warmer caches: they take turns.
            if turn % 2:
                hand, fit = plain(arguments.steps), framework(arguments.steps, Path(folder) / str(turn))
            else:
                fit, hand = framework(arguments.steps, Path(folder) / str(turn)), plain(arguments.steps)
            ratios.append(fit / hand)
            print(
                f"round {turn + 1}: fit {fit:.1f} samples/s, plain loop {hand:.1f}, ratio {fit / hand:.3f}",
                flush=True,
            )
    print(
        f"median ratio over {arguments.rounds} rounds: {statistics.median(ratios):.3f} (torch {torch.__version__})"
    )


if __name__ == "__main__":
    main()
