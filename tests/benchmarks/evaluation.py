"""What batching gains in evaluation: answered examples per second of batches beside batch size 1, on the CPU.

The same model, rows and code (`lmmcl.evaluation.evaluator.evaluate_task`), in alternation in one run; the ratio is the
median over rounds. It is to reach 4, and the predictions of both must be the same, which holds in fp32. The ratio per
second of the processor is that of a machine that does nothing else.

    python -m tests.benchmarks.evaluation [--tasks count,chart,caption] [--samples 96] [--batch 64] [--rounds 5]
"""

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForImageTextToText

from lmmcl import TaskSequenceDataModule
from lmmcl.data.row import Row
from lmmcl.evaluation.evaluator import evaluate_task
from lmmcl.loading import Checkpoint


@dataclass
class Speaker:
    """A model to be measured, without a run around it."""

    model: Any
    processor: Any
    device: torch.device

    def inference(self) -> AbstractContextManager[None]:
        """Nothing to open: the model is in eval mode."""
        return nullcontext()


def measure(
    speaker: Speaker, data: TaskSequenceDataModule, rows: Mapping[str, Sequence[Row]], batch_size: int
) -> tuple[float, float, dict[str, list[str]]]:
    """Examples per second and per second of the processor over all tasks, and the predictions of each."""
    said = {}
    begin, worked = time.perf_counter(), time.process_time()
    for task in data.tasks:
        result = evaluate_task(speaker, task, rows[task.name], data.collator.prompts, batch_size=batch_size)
        said[task.name] = [example.prediction for example in result.examples]
    seconds, work = time.perf_counter() - begin, time.process_time() - worked
    examples = sum(len(predictions) for predictions in said.values())
    return examples / seconds, examples / work, said


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", default="count,chart,caption")
    parser.add_argument("--samples", type=int, default=96, help="of each task")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    checkpoint = Checkpoint("mini")
    model = AutoModelForImageTextToText.from_pretrained(
        checkpoint.location, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    speaker = Speaker(model, checkpoint.processor(), torch.device("cpu"))
    data = TaskSequenceDataModule(arguments.tasks.split(","), max_eval_samples=arguments.samples)
    data.attach(speaker.processor, 2048)
    rows = {task.name: data.eval_rows(task) for task in data.tasks}
    measure(speaker, data, rows, arguments.batch)  # templates rendered, caches warm
    ratios: list[tuple[float, float]] = []
    for turn in range(arguments.rounds):
        # Whoever goes later finds warmer caches: they take turns.
        sizes = [1, arguments.batch] if turn % 2 == 0 else [arguments.batch, 1]
        found = {size: measure(speaker, data, rows, size) for size in sizes}
        one, many = found[1], found[arguments.batch]
        odd = {task: sum(a != b for a, b in zip(one[2][task], many[2][task], strict=True)) for task in rows}
        if any(odd.values()):
            raise SystemExit(f"predictions differ between the batch sizes: {odd}")
        ratios.append((many[0] / one[0], many[1] / one[1]))
        print(
            f"round {turn + 1}, examples/s: batch 1 {one[0]:.1f}, batch {arguments.batch} {many[0]:.1f}",
            flush=True,
        )
    wall, work = (statistics.median(values) for values in zip(*ratios, strict=True))
    print(
        f"batch {arguments.batch} / batch 1, median of {arguments.rounds} rounds: {wall:.2f}; "
        f"per second of the processor {work:.2f}"
    )
    print(f"equal predictions: {', '.join(f'{len(some)} of {task}' for task, some in rows.items())}")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
