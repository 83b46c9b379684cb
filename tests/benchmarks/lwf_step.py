"""What Learning without Forgetting costs: the time of a step and the memory of the teacher, beside a plain step.

For each recipe, one fit in which every other step has a teacher: a step with it over the step before, without, is
to stay (median) below 1.05 × (1 + teacher's operations / plain step's operations), both counted by torch while
they run; what the student's forward takes over from the teacher's is not counted twice. Two fits, in a process
each, with and without: what torch holds at its peak is to be more by at most 1.1 times the bytes of what trains. It
is counted block by block, and comes out the same in every run; beside it stands the difference of two peaks of resident
memory, which moves by a tenth or two with what the C library keeps of freed blocks. Then the way a textbook has it
(a second whole model, logits at every position), on the model of `tests.benchmarks.training` whose vocabulary is
152,064 words: `LwF` is to be 1.5 times as fast at 0.6 of the memory.

    python -m tests.benchmarks.lwf_step [--recipes sa_proj,mlp_gate_up,llm,full] [--steps 12] [--rounds 3]
"""

import argparse
import copy
import logging
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoProcessor
from typing_extensions import override

from lmmcl import ContinualLMM
from lmmcl.callbacks import LwF
from lmmcl.data.batches.batch import Batch
from tests.benchmarks.contestants import LR, Work, collate, data_of, fp32_model, read_rows
from tests.benchmarks.fresh_process import Allocated, Memory, answer, run_fresh
from tests.benchmarks.machine import machine
from tests.benchmarks.vocabulary import Shape, write_checkpoint, write_samples

RECIPES = ("sa_proj", "mlp_gate_up", "llm", "full")
TRUNK, VOCABULARY = Shape(1_000, width=512, layers=8), Shape(152_064)
BATCH, WARM_UP = 8, 4
SAME_LENGTH = ((8, 8), (2, 2))
COUNTED = {"warm_up": 1, "steps": 2}
"""Steps whose blocks are counted: the first makes the moments, the others are alike."""


class EverySecondStep(LwF):
    """Distils at every second step, and notes time and operations of all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: tuple[list[float], list[float]] = [], []
        self.operations = [0, 0]
        self._step = 0
        self._counter = FlopCounterMode(display=False)

    @property
    def _counting(self) -> bool:
        return self._step < 2

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._counting:
            self._counter.__enter__()
        self._begin = time.perf_counter()

    @override
    def before_forward(self, module: ContinualLMM, batch: Batch) -> None:
        if self._step % 2 == 0:
            self._teacher = None
            return
        super().before_forward(module, batch)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        took = time.perf_counter() - self._begin
        if self._counting:
            self._counter.__exit__(None, None, None)
            self.operations[self._step % 2] = self._counter.get_total_flops()
        elif self._step >= WARM_UP:
            self.seconds[self._step % 2].append(took)
        self._step += 1


class Watched(pl.Callback):
    """When each step ended, and the peak of memory until the last ended."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.ends: list[float] = []
        self.peak = 0

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.tick()

    def tick(self) -> None:
        """A step ended."""
        self.ends.append(time.perf_counter())
        self.peak = self._memory.peak()

    def per_second(self) -> float:
        """Steps a second behind the warm-up."""
        return (len(self.ends) - WARM_UP) / (self.ends[-1] - self.ends[WARM_UP - 1])


class Counted(pl.Callback):
    """What torch held at most until the last step ended, from when this was made."""

    def __init__(self, work: Work) -> None:
        self._last = work.total - 1
        self._allocated = Allocated()
        self.peak = 0

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == self._last:
            self.peak = self._allocated.end()


def fit(work: Work, callbacks: Sequence[pl.Callback]) -> ContinualLMM:
    """One task, with `ContinualLMM`."""
    module = ContinualLMM(work.model, recipe=work.recipe, lr=LR, run=work.out)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        precision="bf16-mixed",
        gradient_clip_val=1.0,
        callbacks=[*callbacks],
        **quiet,
    )
    trainer.fit(module, data_of(work))
    return module


def textbook(work: Work, watched: Watched) -> None:
    """The loop of a textbook: a frozen copy of the model, the KL of all logits."""
    processor = AutoProcessor.from_pretrained(work.model)
    model = fp32_model(work).train()
    teacher = copy.deepcopy(model).eval().requires_grad_(False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LR, weight_decay=0.0, fused=True)
    rows = read_rows(work)
    for step in range(work.total):
        batch = collate(processor, rows[step * work.batch : (step + 1) * work.batch])
        labels = batch.pop("labels")
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                other = teacher(**batch, use_cache=False).logits
            logits = model(**batch, use_cache=False).logits
        loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        student, taught = (
            functional.log_softmax(x.flatten(0, 1).float() / 2, dim=-1) for x in (logits, other)
        )
        loss = loss + 4 * functional.kl_div(student, taught, reduction="batchmean", log_target=True)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        watched.tick()


def measure(way: str, count: bool = False, **settings: Any) -> Mapping[str, float]:
    """One fit in this process.

    Args:
        way: ``alternating``, ``plain``, ``LwF`` or ``textbook``.
        count: with ``plain`` and ``LwF``, count what torch allocates, which takes time.
        settings: of `Work`.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    work = Work(**settings)
    if way == "alternating":
        every = EverySecondStep()
        fit(work, [every])
        pairs = zip(*every.seconds, strict=True)
        plain, taught = every.operations
        return {"ratio": statistics.median(b / a for a, b in pairs), "bound": 1.05 * taught / plain}
    teacher = [LwF()] if way == "LwF" else []
    if count:
        counted = Counted(work)
        module = fit(work, [counted, *teacher])
        return {"peak": counted.peak, "trained": _bytes(module)}
    watched = Watched(Memory())
    if way == "textbook":
        textbook(work, watched)
        return {"speed": watched.per_second(), "peak": watched.peak}
    module = fit(work, [watched, *teacher])
    return {"speed": watched.per_second(), "peak": watched.peak, "trained": _bytes(module)}


def _bytes(module: ContinualLMM) -> int:
    """What trains."""
    return sum(p.numel() * p.element_size() for p in module.trained_parameters().values())


def extra(found: Mapping[str, Mapping[str, float]]) -> float:
    """How much higher LwF's peak is than a plain fit's, over the bytes that train."""
    return (found["LwF"]["peak"] - found["plain"]["peak"]) / found["plain"]["trained"]


def median_of(ways: Sequence[str], work: Mapping[str, Any], rounds: int) -> dict[str, dict[str, float]]:
    """Each way in fresh processes, in alternating rounds."""
    found: dict[str, list[Mapping[str, float]]] = {way: [] for way in ways}
    for turn in range(rounds):
        for way in ways if turn % 2 == 0 else [*ways][::-1]:
            with tempfile.TemporaryDirectory() as out:
                settings = {"way": way, **work, "out": str(Path(out) / "run")}
                found[way].append(run_fresh("tests.benchmarks.lwf_step", settings))
    return {
        way: {key: statistics.median(one[key] for one in ones) for key in ones[0]}
        for way, ones in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--steps", type=int, default=12, help="timed ones")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        models, rows = [], []
        for shape, name in ((TRUNK, "trunk"), (VOCABULARY, "vocabulary")):
            models.append(str(write_checkpoint(folder / name, shape)))
            count = (WARM_UP + arguments.steps) * BATCH * 3 // 2
            rows.append(str(write_samples(folder / f"{name}-rows", shape, count, lengths=SAME_LENGTH)))
        common = {"steps": arguments.steps, "warm_up": WARM_UP, "batch": BATCH}
        print(
            "| recipe | LwF step / plain step | bound | extra memory / what trains (at most 1.1) | resident |"
        )
        print("|---|---|---|---|---|")
        for recipe in arguments.recipes.split(","):
            work = {"model": models[0], "rows": rows[0], "recipe": recipe, **common}
            found = median_of(["alternating", "plain", "LwF"], work, arguments.rounds)
            one = found["alternating"]
            counted = median_of(["plain", "LwF"], {**work, **COUNTED, "count": True}, 1)
            memory = f"{extra(counted):.3f} | {extra(found):.2f}"
            print(f"| {recipe} | {one['ratio']:.3f} | {one['bound']:.3f} | {memory} |", flush=True)
        work = {"model": models[1], "rows": rows[1], "recipe": "sa_proj", **common, "steps": 4}
        found = median_of(["LwF", "textbook"], work, arguments.rounds)
        ours, theirs = found["LwF"], found["textbook"]
        print(
            f"\nbeside the textbook's way, {VOCABULARY.vocabulary:,} words, sa_proj: "
            f"{ours['speed'] / theirs['speed']:.2f} times as fast (at least 1.5), "
            f"{ours['peak'] / theirs['peak']:.2f} of its memory (at most 0.6)"
        )
    print(f"\n{machine('transformers', 'lightning')}; medians of {arguments.rounds} rounds")


if __name__ == "__main__":
    import sys

    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        answer(measure)
    else:
        main()
