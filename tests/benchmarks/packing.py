"""What packing saves: training samples per second on samples of mixed length, padded and packed, in one run.

The shipped mini model, all of it trained, on samples of 20 to 400 tokens, long-tailed, a picture in each: batches from
the loader, forward, backward, AdamW. The steps are drawn evenly from an epoch of 200, so that length-grouping works as
in a long run. Contestants are random and length-grouped batches, each padded and packed, in alternation; a ratio is the
median over rounds. The losses of a packed run are asserted to be those of the padded one, step by step.

    python -m tests.benchmarks.packing [--steps 12] [--rounds 5] [--bf16]
"""

import argparse
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from PIL import Image

from lmmcl import Task, TaskSequenceDataModule
from lmmcl.data.batches.order import draw
from lmmcl.data.row import Row
from lmmcl.loading import Checkpoint
from lmmcl.losses import cross_entropy
from lmmcl.outputs.forward import AnswerForward
from lmmcl.scorers import exact_match

BATCH = 32
EPOCH = 200
WARM_UP = 2
SHORTEST, LONGEST = 20, 400
BESIDE_WORDS = 24
"""Tokens of a sample that are no words of its question: picture, template, answer."""
WORDS = ["red", "green", "blue", "circle", "square", "left", "right", "yes"]
WAYS: dict[str, dict[str, Any]] = {
    "random, padded": {"group_by_length": False},
    "random, packed": {"group_by_length": False, "packing": True},
    "grouped, padded": {},
    "grouped, packed": {"packing": True},
}


@dataclass(frozen=True)
class MixedLengths:
    """Rows whose lengths fall off as one over the length, as instructions' do."""

    count: int

    def split(self, name: str) -> Sequence[Row]:
        if name != "train":
            return [self._row(name, i, 0.0) for i in range(4)]
        uniform = draw(self.count, "lengths") / 2.0**64
        return [self._row(name, i, float(uniform[i])) for i in range(self.count)]

    def _row(self, part: str, i: int, at: float) -> Row:
        length = SHORTEST * (LONGEST / SHORTEST) ** at
        question = " ".join(WORDS[(i + j) % len(WORDS)] for j in range(max(1, round(length) - BESIDE_WORDS)))
        answer = " ".join(WORDS[(i * 3 + j) % len(WORDS)] for j in range(1 + i % 3))
        return Row(
            id=f"{part}-{i}",
            messages=[
                {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]},
                {"role": "assistant", "content": [{"type": "text", "text": answer}]},
            ],
            images=[Image.new("RGB", (48, 48), ((37 * i) % 256, (91 * i) % 256, 128))],
            gold=answer,
        )

    def fingerprint(self) -> str:
        return f"mixed-{self.count}"


def train(steps: int, bf16: bool, **options: Any) -> tuple[float, list[float], int]:
    """Trains on steps drawn evenly from an epoch.

    Returns:
        samples per second behind the warm-up, the loss of every step, and the positions that were computed.
    """
    task = Task("mixed", MixedLengths(EPOCH * BATCH), exact_match, max_new_tokens=4)
    data = TaskSequenceDataModule([task], batch_size=BATCH, **options)
    checkpoint = Checkpoint("mini")
    data.attach(checkpoint.processor(), None, always_image=False)
    data.begin(0, data.train_rows(0), 0, 0)
    loader = data.loader(0, 1)
    chosen = [loader.data.windows[EPOCH * step // (steps + WARM_UP)] for step in range(steps + WARM_UP)]
    loader.data.windows = chosen
    model = checkpoint.model(True, 0, "eager").train()
    forwards = AnswerForward(model, bf16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0)
    begin, positions, losses = 0.0, 0, []
    for step, batch in enumerate(loader):
        if step == WARM_UP:
            begin = time.perf_counter()
        with forwards.autocast():
            loss = forwards.token_outputs(batch).map(cross_entropy).sum() / batch.window_tokens
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        positions += batch.mask().numel() if step >= WARM_UP else 0
    return steps * BATCH / (time.perf_counter() - begin), losses, positions


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bf16", action="store_true")
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    near = 5e-2 if arguments.bf16 else 1e-4
    speeds: dict[str, list[float]] = {name: [] for name in WAYS}
    losses: dict[str, list[float]] = {}
    positions: dict[str, int] = {}
    for turn in range(arguments.rounds):
        # Whoever goes later finds warmer caches: they take turns.
        for name in [*WAYS][turn % len(WAYS) :] + [*WAYS][: turn % len(WAYS)]:
            speed, losses[name], positions[name] = train(arguments.steps, arguments.bf16, **WAYS[name])
            speeds[name].append(speed)
        for order in ("random", "grouped"):
            for padded, packed in zip(losses[f"{order}, padded"], losses[f"{order}, packed"], strict=True):
                same = abs(padded - packed) <= near * padded
                assert same, f"{order}: a packed step has the loss {packed}, a padded one {padded}"
        said = ", ".join(f"{name} {values[-1]:.1f}" for name, values in speeds.items())
        print(f"round {turn + 1}, samples/s: {said}", flush=True)
    print(f"\n{'':16} samples/s  to random padded  to grouped padded  positions")
    for name, values in speeds.items():
        ratios = [
            statistics.median(one / other for one, other in zip(values, speeds[base], strict=True))
            for base in ("random, padded", "grouped, padded")
        ]
        numbers = f"{statistics.median(values):9.1f}  {ratios[0]:16.2f}  {ratios[1]:17.2f}"
        print(f"{name:16} {numbers}  {positions[name]:9,}")
    kind = "bf16-mixed" if arguments.bf16 else "32-true"
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, transformers "
        f"{transformers.__version__}, {kind}: {arguments.rounds} rounds of {arguments.steps} steps of {BATCH} samples"
    )


if __name__ == "__main__":
    main()
