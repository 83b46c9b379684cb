"""Runs part of a test on several gloo processes of this machine."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def torchrun(processes: int, *program: object, timeout: float = 420.0) -> None:
    """Waits for a program and shows all of its words if it failed: what failed first stands above torchrun's own.

    Args:
        processes: that run it.
        program: ``-m`` and the name of a module, or the path of a script; then its arguments.
        timeout: seconds.
    """
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [*start, *map(str, program)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
