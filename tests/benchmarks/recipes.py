"""Time and memory of ``lmmcl recipes`` at the shapes of the study's models: ``python -m tests.benchmarks.recipes``."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

CONFIGS = Path(__file__).parents[1] / "real_configs"
NAMES = ("llava-onevision-qwen2-7b", "llava-next-llama3-8b", "qwen2.5-vl-7b")


@dataclass(frozen=True)
class Cost:
    """What one run of the command took.

    Args:
        wall: seconds on the clock.
        cpu: seconds of processor time.
        memory: largest resident memory in bytes.
    """

    wall: float
    cpu: float
    memory: int


def measure(name: str) -> Cost:
    """Runs the command on a config in a process of its own.

    A small process starts it: what a child holds before it becomes the command, its parent's copy, counts as its own.
    """
    watcher = [sys.executable, "-m", "tests.benchmarks.recipes", name]
    said = subprocess.run(watcher, cwd=Path(__file__).parents[2], check=True, capture_output=True, text=True)
    return Cost(**json.loads(said.stdout))


def _watch(name: str) -> Cost:
    start = time.perf_counter()
    command = [sys.executable, "-m", "lmmcl", "recipes", "--model", str(CONFIGS / name)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return Cost(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(asdict(_watch(sys.argv[1]))))
        sys.exit()
    for name in NAMES:
        cost = measure(name)
        print(
            f"{name}: {cost.wall:.1f} s on the clock, {cost.cpu:.1f} s of CPU, {cost.memory / 1e9:.2f} GB at most"
        )
