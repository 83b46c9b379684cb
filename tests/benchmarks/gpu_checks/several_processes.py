"""On GPUs: weights go into shards over NCCL to the byte, and a killed process ends the one that waits in a kernel.

    python -m tests.benchmarks.gpu_checks.several_processes

One GPU is enough for the first; the second needs two, and says so.
"""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

from lmmcl.run.run_folder import RunFolder
from lmmcl.sequence.resume import BASE
from tests.test_several_processes import finished, started, steps
from tests.tiny import tiny_checkpoint
from tests.tiny_run import write_config


def fit(config: Path, run: Path, strategy: str, devices: int) -> list[str]:
    """The words of a run on GPUs, in the precision of real ones."""
    words = [sys.executable, "-m", "lmmcl", "fit", "--config", str(config), "--run", str(run)]
    place = [
        "--trainer.strategy",
        strategy,
        "--trainer.devices",
        str(devices),
        "--trainer.accelerator",
        "gpu",
    ]
    return [*words, *place, "--trainer.precision", "bf16-mixed"]


def check_bytes(config: Path, folder: Path, devices: int) -> None:
    """The base model in shards has the bytes of one process without any."""
    for name, strategy, number in (("one", "auto", 1), ("shards", "fsdp2", devices)):
        code, _, errors = finished(*fit(config, folder / name, strategy, number))
        assert code == 0, errors
    one, shards = (RunFolder(folder / name).checksums(BASE) for name in ("one", "shards"))
    assert one == shards
    print(f"weights in shards on {devices} GPUs: {len(one)} tensors, the bytes of one process")


def check_death(config: Path, folder: Path) -> None:
    """A process is killed in training; the other ends within a minute."""
    with started(*fit(config, folder / "killed", "fsdp2", 2)) as first:
        while steps(folder / "killed") < 2 and first.poll() is None:
            time.sleep(0.01)
        other = int(Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()[0])
        os.kill(other, signal.SIGKILL)
        began = time.monotonic()
        _, errors = first.communicate(timeout=60)
    assert first.returncode == 1 and f"process 1 (pid {other} " in errors, errors
    print(f"a killed process ended the other after {time.monotonic() - began:.1f} s: {errors.strip()}")


def main() -> None:
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not devices:
        print("skipped: there is no GPU")
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        config = write_config(folder, tiny_checkpoint(folder / "tiny"), folder / "run")
        check_bytes(config, folder, min(2, devices))
        if devices < 2:
            print("skipped: whether a killed process ends the others needs two GPUs, and there is one")
            return
        check_death(config, folder)


if __name__ == "__main__":
    main()
