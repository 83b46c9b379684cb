"""Memory and time of a streamed merge, beside copying one of the checkpoints and reading the other.

    python -m tests.benchmarks.merge [--gigabytes 2] [--method ties ...] [--rounds 3] [--folder DIR]

Two random bf16 checkpoints of a 7-billion-parameter language model's shapes (fewer layers), in shards of 1 GB. In
every round each method's merge stands beside a copy and a reading of its own; the ratio is the median over these
pairs. Each part begins alike: both checkpoints are in the page cache, nothing waits to be written, and memory that was
freed has gone back to the host of a virtual machine, as it does within seconds and is then slow to get again. A merge's
seconds begin with the start of Python and end with all on disk; a copy's end in the page cache. Memory is the largest
resident set of the whole process.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from lmmcl.merge.tensor_file import TensorFileWriter
from tests.benchmarks.machine import machine

_REST = 5.0
SHARD = 1_000_000_000
WIDTH, INNER, NARROW, WORDS = 3584, 18944, 512, 65536
"""Qwen2-7B's widths; fewer words, so that a small checkpoint is not all embedding."""
_SHAPES = {
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.k_proj": (NARROW, WIDTH),
    "self_attn.v_proj": (NARROW, WIDTH),
    "self_attn.o_proj": (WIDTH, WIDTH),
    "mlp.gate_proj": (INNER, WIDTH),
    "mlp.up_proj": (INNER, WIDTH),
    "mlp.down_proj": (WIDTH, INNER),
}


def shapes(size: int) -> dict[str, tuple[int, int]]:
    """Tensors of about so many bytes: an embedding and decoder layers."""
    found = {"model.embed_tokens.weight": (WORDS, WIDTH)}
    layer = 0
    while sum(2 * rows * columns for rows, columns in found.values()) < size:
        for name, shape in _SHAPES.items():
            found[f"model.layers.{layer}.{name}.weight"] = shape
            if sum(2 * rows * columns for rows, columns in found.values()) >= size:
                break
        layer += 1
    return found


def write(folder: Path, size: int, seed: int) -> None:
    """A checkpoint of random values; a tuned one is the first with small changes."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    files: list[dict[str, tuple[int, int]]] = [{}]
    for key, shape in shapes(size).items():
        if sum(2 * rows * columns for rows, columns in files[-1].values()) > SHARD:
            files.append({})
        files[-1][key] = shape
    placed = {}
    base, own = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    for number, tensors in enumerate(files):
        name = f"model-{number + 1:05d}-of-{len(files):05d}.safetensors"
        stored = {key: (torch.bfloat16, shape) for key, shape in tensors.items()}
        with TensorFileWriter(folder / name, stored) as writer:
            for key, (rows, columns) in tensors.items():
                placed[key] = name
                for start in range(0, rows, 1024):
                    values = torch.randn(min(1024, rows - start), columns, generator=base) * 0.02
                    values += torch.randn(values.shape, generator=own) * 0.002 if seed else 0
                    writer.put(values.bfloat16())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))


def settle(*folders: Path) -> None:
    """Lets every timed part begin alike."""
    for folder in folders:
        read(folder)
    os.sync()
    time.sleep(_REST)


def read(folder: Path) -> None:
    """Reads a checkpoint, and keeps nothing."""
    for file in sorted(folder.glob("*.safetensors")):
        with open(file, "rb", buffering=0) as held:
            while held.read(1 << 24):
                pass


def copied(source: Path, to: Path, other: Path) -> tuple[float, float]:
    """Seconds of ``cp --reflink=never`` of a checkpoint, and of reading another."""
    start = time.perf_counter()
    subprocess.run(["cp", "-r", "--reflink=never", source, to], check=True)
    middle = time.perf_counter()
    read(other)
    return middle - start, time.perf_counter() - middle


_COMMAND = """
import sys
from lmmcl.cli import main
code = main(sys.argv[1:])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(status["VmHWM"].split()[0])
sys.exit(code)
"""


def merged(base: Path, tuned: Path, to: Path, method: str) -> tuple[float, int, str]:
    """Seconds, largest resident set in bytes, and what the command said.

    The process tells its own high-water mark: what `wait4` gives would begin with the one of this process.
    """
    words = ["merge", str(base), str(tuned), "--to", str(to), "--method", method]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND, *words], stdout=subprocess.PIPE, text=True, check=True
    )
    *said, peak = done.stdout.strip().splitlines()
    return time.perf_counter() - start, int(peak) * 1024, "\n".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument(
        "--method", nargs="+", default=["task_arithmetic", "ties", "dare", "breadcrumbs", "wise_ft"]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    words = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=words.folder))
    try:
        base, tuned, to = folder / "base", folder / "tuned", folder / "to"
        for place, seed in ((base, 0), (tuned, 1)):
            write(place, int(words.gigabytes * 1e9), seed)
        copies: dict[str, list[tuple[float, float]]] = {method: [] for method in words.method}
        merges: dict[str, list[tuple[float, int, str]]] = {method: [] for method in words.method}
        for number in range(words.rounds):
            for method in words.method:
                for part in ("copy", "merge") if number % 2 == 0 else ("merge", "copy"):
                    settle(base, tuned)
                    if part == "copy":
                        copies[method].append(copied(base, to, tuned))
                    else:
                        merges[method].append(merged(base, tuned, to, method))
                    shutil.rmtree(to)
        print(f"{machine()}; {words.rounds} rounds")
        print(f"{'':16} {'merge':>8} {'copy':>8} {'read':>8} {'ratio':>18} {'memory':>8}")
        for method, runs in merges.items():
            print(_line(method, runs, copies[method]))
    finally:
        shutil.rmtree(folder)


def _line(
    method: str, merges: Sequence[tuple[float, int, str]], copies: Sequence[tuple[float, float]]
) -> str:
    """Medians of a method and of the copies beside it; the ratio with its range."""
    ratios = sorted(run[0] / sum(copy) for run, copy in zip(merges, copies, strict=True))
    seconds = [statistics.median(column) for column in zip(*copies, strict=True)]
    merge, memory = statistics.median(run[0] for run in merges), max(run[1] for run in merges)
    return (
        f"{method:16} {merge:6.1f} s {seconds[0]:6.1f} s {seconds[1]:6.1f} s "
        f"{statistics.median(ratios):5.2f} ({ratios[0]:.2f} – {ratios[-1]:.2f}) {memory / 1e6:5.0f} MB"
    )


if __name__ == "__main__":
    main()
