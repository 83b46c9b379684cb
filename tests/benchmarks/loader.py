"""What a device waits for its batches: training samples per second beside batches made in advance, in one run.

The shipped mini model on its picture world: forward, backward, AdamW, by the way the loader prepares batches, in
alternation; a ratio is the median over rounds. On a GPU, if there is one, the host may be late as long as the device
has kernels to run: nothing waits for it before the end. Beside it, the seconds until the first batch is there, which
every epoch pays.

    python -m tests.benchmarks.loader [--steps 20] [--rounds 5]
"""

import argparse
import platform
import statistics
import time
from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch
import transformers

from lmmcl import TaskSequenceDataModule
from lmmcl.data.batches.batch import Batch
from lmmcl.loading import Checkpoint
from lmmcl.losses import cross_entropy
from lmmcl.outputs.forward import AnswerForward

BATCH = 32
WARM_UP = 2
IN_ADVANCE = "made in advance"
WAYS: dict[str, dict[str, Any]] = {
    IN_ADVANCE: {},
    "num_workers 0": {},
    "num_workers 1": {"num_workers": 1},
    "num_workers 2": {"num_workers": 2},
    "num_workers 0, packing": {"packing": True},
    "num_workers 2, packing": {"packing": True, "num_workers": 2},
}


def loader_of(steps: int, **options: Any) -> Iterable[Batch]:
    task = {"task": "general", "max_train_samples": (steps + WARM_UP) * BATCH}
    data = TaskSequenceDataModule([task], batch_size=BATCH, **options)
    data.attach(Checkpoint("mini").processor(), 512)
    data.begin(0, data.train_rows(0), 0, 0)
    return data.loader(0, 1)


def train(steps: int, name: str, device: torch.device) -> tuple[float, float]:
    """Samples per second behind the warm-up, and seconds until the first batch."""
    model = Checkpoint("mini").model(True, 0, None if device.type == "cuda" else "eager").to(device).train()
    forwards = AnswerForward(model, bf16=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    batches = loader_of(steps, **WAYS[name])
    if name == IN_ADVANCE:
        batches = [batch.to(device) for batch in batches]
    start = time.perf_counter()
    iterator = iter(batches)
    first = next(iterator)
    waited, begin = time.perf_counter() - start, 0.0
    for step, batch in enumerate(chain([first], iterator)):
        if step == WARM_UP:
            begin = _now(device)
        with forwards.autocast():
            loss = forwards.token_outputs(batch.to(device)).map(cross_entropy).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return steps * BATCH / (_now(device) - begin), waited


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    speeds: dict[str, list[float]] = {name: [] for name in WAYS}
    waits: dict[str, list[float]] = {name: [] for name in WAYS}
    for turn in range(arguments.rounds):
        for name in [*WAYS][turn % len(WAYS) :] + [*WAYS][: turn % len(WAYS)]:
            speed, waited = train(arguments.steps, name, device)
            speeds[name].append(speed)
            waits[name].append(waited)
        print(f"round {turn + 1} of {arguments.rounds}", flush=True)
    print(f"{'':22}  samples/s  to made in advance  seconds to the first batch")
    for name, values in speeds.items():
        ratio = statistics.median(one / whole for one, whole in zip(values, speeds[IN_ADVANCE], strict=True))
        median, wait = statistics.median(values), statistics.median(waits[name])
        print(f"{name:22}  {median:9.1f}  {ratio:18.2f}  {wait:26.3f}")
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    print(
        f"{where}, {torch.get_num_threads()} threads, torch {torch.__version__}, transformers "
        f"{transformers.__version__}: {arguments.rounds} rounds of {arguments.steps} steps of {BATCH} samples"
    )


if __name__ == "__main__":
    main()
