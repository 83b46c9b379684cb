"""What evaluation gains: batches beside batch size 1, and the second stage beside the first where features are kept.

The same rows and code (`lmmcl.evaluation.evaluator.evaluate_task`), in alternation in one run; ratios are medians over
rounds, per second of the wall and per second of the processor: the latter is that of a machine that does nothing else.
All predictions must be equal, which batch sizes grant in fp32, and kept features (`data.cache_features`) in whatever
precision.

- ``batches``: the mini model, at batch 64 and at batch 1; to reach 5.
- ``stages``: a model with the ratio of tower to decoder of SmolVLM-Instruct (2.2 B), each row about a JPEG file of 640
  × 480; a first stage that keeps features, a later one that finds them, one with the cache off, and batch 1. A later
  stage is to reach 2 times the first one's speed, and 5 times that of batch 1.
- ``cache``: answers of 64 tokens to batches of 16 prompts with transformers' two caches and ours, see
  `tests.benchmarks.generation_caches`; peaks are of a fresh process each.

    python -m tests.benchmarks.evaluation [batches|stages|cache] [--samples 96] [--batch 64] [--rounds 5]
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForImageTextToText

from lmmcl import TaskSequenceDataModule
from lmmcl.data.row import Row
from lmmcl.evaluation.answering import MakePrompts
from lmmcl.evaluation.evaluator import evaluate_task
from lmmcl.evaluation.feature_folder import FeatureFolder
from lmmcl.evaluation.kept_features import KeptFeatures
from lmmcl.loading import Checkpoint
from lmmcl.structure.anatomy import Anatomy
from tests.benchmarks import generation_caches as caches
from tests.benchmarks.fresh_process import run_fresh
from tests.benchmarks.towers import Shape, write_checkpoint, write_rows

SMOLVLM = Shape(tower=(1152, 27), decoder=(2048, 24))
SCALED = Shape(tower=(192, 6), decoder=(320, 6))


@dataclass
class Speaker:
    """A model to be measured, without a run around it."""

    model: Any
    processor: Any
    device: torch.device

    @classmethod
    def of(cls, path: str) -> "Speaker":
        """The model of a checkpoint, in fp32 and in eval mode."""
        checkpoint = Checkpoint(path)
        model = AutoModelForImageTextToText.from_pretrained(
            checkpoint.location, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        return cls(model, checkpoint.processor(), torch.device("cpu"))

    def inference(self) -> AbstractContextManager[None]:
        """Nothing to open: the model is in eval mode."""
        return nullcontext()


@dataclass(frozen=True)
class Pace:
    """One measurement.

    Args:
        wall: examples per second.
        work: examples per second of the processor.
        said: the predictions of each task.
    """

    wall: float
    work: float
    said: dict[str, list[str]]


class Bench:
    """A model and its rows.

    Args:
        path: of the model.
        tasks: as ``data.tasks`` has them.
        samples: rows of each task.
    """

    def __init__(self, path: str, tasks: Sequence[Any], samples: int) -> None:
        self.speaker = Speaker.of(path)
        self.data = TaskSequenceDataModule(tasks, max_eval_samples=samples)
        self.data.attach(self.speaker.processor, 2048)
        self.rows: Mapping[str, Sequence[Row]] = {t.name: self.data.eval_rows(t) for t in self.data.tasks}

    def pace(self, batch_size: int, prompts: MakePrompts | None = None) -> Pace:
        """Measures all tasks once."""
        said = {}
        make = prompts or self.data.collator.prompts
        begin, worked = time.perf_counter(), time.process_time()
        for task in self.data.tasks:
            result = evaluate_task(self.speaker, task, self.rows[task.name], make, batch_size=batch_size)
            said[task.name] = [example.prediction for example in result.examples]
        seconds, work = time.perf_counter() - begin, time.process_time() - worked
        examples = sum(len(predictions) for predictions in said.values())
        return Pace(examples / seconds, examples / work, said)


def alternate(ways: Mapping[str, Callable[[], Pace]], rounds: int) -> dict[str, list[Pace]]:
    """Measures every way in every round; whoever goes later finds warmer caches, so they take turns.

    Raises:
        SystemExit: two of them predict differently.
    """
    found: dict[str, list[Pace]] = {name: [] for name in ways}
    first: dict[str, list[str]] | None = None
    for turn in range(rounds):
        for name in list(ways) if turn % 2 == 0 else list(ways)[::-1]:
            pace = ways[name]()
            first = first or pace.said
            if pace.said != first:
                odd = {
                    task: sum(a != b for a, b in zip(pace.said[task], first[task], strict=True))
                    for task in first
                }
                raise SystemExit(f"{name} predicts differently: {odd}")
            found[name].append(pace)
        speeds = ", ".join(f"{name} {paces[-1].wall:.1f}" for name, paces in found.items())
        print(f"round {turn + 1}, examples/s: {speeds}", flush=True)
    return found


def report(found: Mapping[str, Sequence[Pace]], many: str, one: str) -> None:
    """Prints how much faster one way is than another."""
    pairs = list(zip(found[many], found[one], strict=True))
    wall = statistics.median(a.wall / b.wall for a, b in pairs)
    work = statistics.median(a.work / b.work for a, b in pairs)
    print(f"{many} / {one}: {wall:.2f}; per second of the processor {work:.2f}")


def batches(samples: int, batch: int, rounds: int) -> None:
    """The mini model at two batch sizes."""
    bench = Bench("mini", ["count", "chart", "caption"], samples)
    bench.pace(batch)  # templates rendered, caches warm
    ways = {"batch 1": lambda: bench.pace(1), f"batch {batch}": lambda: bench.pace(batch)}
    found = alternate(ways, rounds)
    report(found, f"batch {batch}", "batch 1")
    print(f"equal predictions: {sum(map(len, bench.rows.values()))}")


def stages(samples: int, batch: int, rounds: int) -> None:
    """A first stage, which keeps features, and a later one, which finds them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_checkpoint(folder / "model", SCALED)
        parts = {"train": write_rows(folder / "train", 1), "test": write_rows(folder / "test", samples)}
        files = {part: str(file) for part, file in parts.items()}
        task = {"task": "seen", "path": files, "scorer": "exact_match"}
        bench = Bench(str(path), [{**task, "max_new_tokens": 8}], samples)
        model = bench.speaker.model
        anatomy = Anatomy.of(model)
        made: list[KeptFeatures] = []

        def keeping() -> KeptFeatures:
            store = FeatureFolder(folder / f"features {len(made)}", 1 << 40)
            made.append(KeptFeatures(store, model, anatomy, bench.speaker.processor, {}))
            return made[-1]

        def stage(features: KeptFeatures) -> Pace:
            features.begin()
            make = bench.data.collator.prompts
            return bench.pace(batch, lambda rows: features.prompts(make, rows))

        filled, emptied = keeping(), keeping()
        for features in (filled, emptied):
            stage(features)  # the first batch of all is answered twice, once in a run

        def first() -> Pace:
            for file in (folder / "features 1").iterdir():
                file.unlink()
            return stage(emptied)

        found = alternate(
            {
                "batch 1": lambda: bench.pace(1),
                "cache off": lambda: bench.pace(batch),
                "first stage": first,
                "later stage": lambda: stage(filled),
            },
            rounds,
        )
        for other in ("first stage", "cache off", "batch 1"):
            report(found, "later stage", other)
        report(found, "cache off", "batch 1")
        size = sum(file.stat().st_size for file in (folder / "features 0").iterdir())
        print(f"equal predictions: {samples}; features {size / 1e6:.1f} MB")
        print(
            f"tower : decoder {SCALED.ratio:.2f} in parameters × positions (SmolVLM-Instruct {SMOLVLM.ratio:.2f})"
        )


def cache(samples: int, batch: int, rounds: int) -> None:
    """The caches of generation; rows and batches have sizes of their own."""
    names = list(caches.WAYS)
    for kv_heads in (2, 8):
        decoder = caches.Decoder(kv_heads)
        model = decoder.model()
        print(f"\n{decoder.layers} layers, {decoder.heads} heads, {kv_heads} of keys and values\n")
        print("| prompt | cache | decoding, tokens/s | to DynamicCache | with the prompt | peak, MB |")
        print("|---|---|---|---|---|---|")
        for length in caches.PROMPTS:
            inputs = caches.prompts(length, decoder.device)
            found: dict[str, list[caches.Said]] = {name: [] for name in names}
            for turn in range(rounds):
                for name in names[turn % len(names) :] + names[: turn % len(names)]:
                    found[name].append(caches.ask(model, inputs, caches.WAYS[name](model)))
                same = caches.check(length, {name: said[-1] for name, said in found.items()})
                if same < 1:
                    raise SystemExit(f"StaticCache says something else: {same:.1%} of its tokens are equal")
            for name, said in found.items():
                pairs = list(zip(said, found["DynamicCache"], strict=True))
                decoding = statistics.median(a.pace / b.pace for a, b in pairs)
                whole = statistics.median(b.seconds / a.seconds for a, b in pairs)
                pace = statistics.median(one.pace for one in said)
                asked = {"way": name, "length": length, **asdict(decoder)}
                peak = run_fresh(caches.__name__, asked, caches.MALLOC)["bytes"] / 1e6
                numbers = f"{pace:.0f} | {decoding:.2f} | {whole:.2f} | {peak:.0f}"
                print(f"| {length} | {name} | {numbers} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="?", choices=["batches", "stages", "cache"])
    parser.add_argument("--samples", type=int, default=96, help="of each task")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    for part in (batches, stages, cache):
        if asked.part in (None, part.__name__):
            part(asked.samples, asked.batch, asked.rounds)
    print(
        f"{platform.machine()}, torch {torch.__version__}, transformers {transformers.__version__}, "
        f"{torch.get_num_threads()} threads"
    )


if __name__ == "__main__":
    main()
