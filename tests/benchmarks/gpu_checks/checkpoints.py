"""A checkpoint of tensors on a GPU: it holds the values of the moment, and how long it holds training up.

``python -m tests.benchmarks.gpu_checks.checkpoints`` on a machine with a GPU.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from lmmcl.run.checkpoint import Checkpoint
from lmmcl.run.saver import Saver

TENSORS, VALUES, ROUNDS = 24, 32 << 20, 5


def save(saver: Saver, folder: Path, tensors: dict[str, Tensor]) -> tuple[float, float]:
    """Seconds until training may go on, and until the checkpoint is whole; the tensors change in between."""
    torch.cuda.synchronize()
    begun = time.perf_counter()
    saver.start(folder, tensors, {})
    held_up = time.perf_counter() - begun
    for tensor in tensors.values():
        tensor.add_(1)
    torch.cuda.synchronize()
    saver.wait()
    return held_up, time.perf_counter() - begun


def main() -> int:
    if not torch.cuda.is_available():
        print("skipped: there is no GPU here")
        return 0
    generator = torch.Generator("cuda").manual_seed(0)
    tensors = {
        f"t{number:02}": torch.randn(VALUES, device="cuda", generator=generator) for number in range(TENSORS)
    }
    saver, times = Saver(), list[tuple[float, float]]()
    with tempfile.TemporaryDirectory() as name:
        for number in range(ROUNDS):
            before = {key: tensor.clone() for key, tensor in list(tensors.items())[:: TENSORS // 3]}
            times.append(save(saver, Path(name) / f"{number}", tensors))
            checkpoint = Checkpoint(Path(name) / f"{number}")
            checkpoint.verify()
            reader = checkpoint.reader()
            wrong = [key for key, value in before.items() if not torch.equal(reader.read(key), value.cpu())]
            if wrong:
                print(
                    f"FAILED: {', '.join(wrong)} changed after the checkpoint was begun, and so did what it holds"
                )
                return 1
    size = 4 * VALUES * TENSORS
    first, held_up = times[0][0], statistics.median(one[0] for one in times[1:])
    whole = statistics.median(one[1] for one in times[1:])
    print(
        f"{size / 1e9:.1f} GB on {torch.cuda.get_device_name()}: training stands still for {held_up * 1e3:.0f} ms "
        f"({first * 1e3:.0f} ms the first time, when memory is pinned) of {whole:.1f} s ({held_up / whole:.1%})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
