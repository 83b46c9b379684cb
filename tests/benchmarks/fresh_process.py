"""A function in a process of its own, and how much memory it takes there; what was imported before does not count."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

_MARK = "measured: "


def run_fresh(module: str, settings: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Any:
    """Runs ``python -m module`` with settings as JSON and returns what `answer` printed there.

    Raises:
        RuntimeError: the process failed; its output is the message.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, json.dumps(settings)],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if done.returncode or not said:
        raise RuntimeError(f"{module} {settings}:\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}")
    return json.loads(said[-1].removeprefix(_MARK))


def answer(work: Callable[..., Mapping[str, Any]]) -> None:
    """In the fresh process: calls a function with the settings and hands back what it returns."""
    print(_MARK + json.dumps(work(**json.loads(sys.argv[1]))), flush=True)


class Memory:
    """Peak of this process's memory above what it held when this was made, in bytes; Linux.

    On a CPU the kernel's own high-water mark of resident memory (``VmHWM``), set back at the start: nothing is sampled,
    nothing is missed. On a GPU what torch allocated there.
    """

    def __init__(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            return
        Path("/proc/self/clear_refs").write_text("5")
        self.before = _kilobytes("VmRSS") * 1024

    def peak(self) -> int:
        """Bytes above the start, so far."""
        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated()
        return _kilobytes("VmHWM") * 1024 - self.before


class Allocated:
    """Most memory that torch held on the CPU at once since this was made, in bytes, counted block by block.

    Resident memory also has what the C library keeps of freed blocks: of a small model a tenth, and another one in each
    run. A block that another thread frees (a checkpoint's copy, when it is written) counts to the end.
    """

    def __init__(self) -> None:
        self._profile = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
        self._profile.start()

    def end(self) -> int:
        """Bytes, at most; from here on nothing is counted."""
        self._profile.stop()
        found: Any = self._profile.profiler
        noted = [event for event in found.kineto_results.events() if event.name() == "[memory]"]
        noted.sort(key=lambda event: event.start_ns())
        return max(accumulate(int(event.nbytes()) for event in noted))


def _kilobytes(key: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(f"{key}:")).split()[1])
