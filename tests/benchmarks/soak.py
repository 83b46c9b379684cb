"""A sequence of many short tasks: memory, open files, threads, time per task and file sizes must stay flat.

    python -m tests.benchmarks.soak [--tasks 50] [--folder DIR] [--profile]

A tiny checkpoint, tasks of three steps, all tasks and two held-out ones measured after each, LwF and WiSE-FT on, a
checkpoint at every step. Each series is looked at from its tenth part on, when caches are warm: its trend (the median
slope between any two stages, times the number of stages) over its median is printed, and the command exits with 1
where it grows by more than the limit beside it. Time is the processor's, so that other work does not count.
"""

import argparse
import cProfile
import itertools
import os
import pstats
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from typing_extensions import override

from lmmcl import ContinualLMM, StageCallback, Task, TaskSequenceDataModule
from lmmcl.callbacks import HeldOutEvaluation, LwF, WiSEFT
from tests.benchmarks.machine import machine
from tests.tiny import tiny_checkpoint
from tests.toy import toy_module, toy_task, toy_trainer

LIMITS = {
    "resident memory, MB": 0.05,
    "open files": 0.0,
    "threads": 0.0,
    "time per task, s": 0.15,
    "checkpoint, kB": 0.05,
    "stage, kB": 0.05,
    "more predictions, kB": 0.05,
    "more in the logs, kB": 0.05,
    "more in the matrix, kB": 0.05,
}
"""Growth from the first stage to the last over the median; what grows with the stages is seen by what each adds."""


@dataclass
class Watch(StageCallback):
    """Looks after every stage."""

    series: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in LIMITS})

    def __post_init__(self) -> None:
        super().__init__()
        self._clock = time.process_time()
        self._sizes: dict[str, int] = {}

    @override
    def on_stage_end(self, trainer: Trainer, module: ContinualLMM, task: Task | None, scores: Any) -> None:
        module.sequence.saver.wait()
        run = module.run_path
        spent = time.process_time() - self._clock
        found = {
            "resident memory, MB": _resident() / 1e6,
            "open files": len(os.listdir("/proc/self/fd")),
            "threads": threading.active_count(),
            "time per task, s": spent,
            "checkpoint, kB": _size(max((run / "last").iterdir())) / 1e3,
            "stage, kB": _size(max((run / "stages").iterdir())) / 1e3,
            "more predictions, kB": self._more(run / "predictions") / 1e3,
            "more in the logs, kB": self._more(run / "logs") / 1e3,
            "more in the matrix, kB": self._more(run / "matrix.csv") / 1e3,
        }
        for name, value in found.items() if task is not None else ():  # the base model was not trained
            self.series[name].append(value)
        self._clock = time.process_time()  # what it took to look does not count

    def _more(self, path: Path) -> int:
        before = self._sizes.get(path.name, 0)
        self._sizes[path.name] = _size(path)
        return self._sizes[path.name] - before


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def trend(values: Sequence[float]) -> float:
    """Growth from the first value to the last, by the median slope between any two of them (Theil and Sen)."""
    slopes = [(b - a) / (j - i) for (i, a), (j, b) in itertools.combinations(enumerate(values), 2)]
    return statistics.median(slopes) * (len(values) - 1)


def soak(folder: Path, tasks: int) -> dict[str, list[float]]:
    """Each series by its name, one value a task."""
    checkpoint = tiny_checkpoint(folder / "tiny")
    names = [*(f"task{number:03}" for number in range(tasks)), "held", "other"]
    # How long an answer is, the model says: of one token each, all stages say as much.
    made = [replace(toy_task(name, number), max_new_tokens=1) for number, name in enumerate(names)]
    data = TaskSequenceDataModule(made[:tasks], made[tasks:], batch_size=8, max_eval_samples=2)
    watch = Watch()
    callbacks = [
        HeldOutEvaluation(canary_every_n_steps=2, canary_samples=4),
        LwF(),
        WiSEFT(measure_before=False),
        watch,
    ]
    toy_trainer(callbacks=callbacks).fit(toy_module(checkpoint, folder / "run"), data)
    return watch.series


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=50)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--profile", action="store_true", help="say where the time goes")
    words = parser.parse_args()
    profile = cProfile.Profile(time.process_time)
    if words.folder is not None:
        words.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=words.folder) as name:
        if words.profile:
            profile.enable()
        series = soak(Path(name), words.tasks)
        profile.disable()
        page = (Path(name) / "run" / "report.html").stat().st_size
    if words.profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(70)
    failed = False
    print(f"{words.tasks} tasks{'':22}first    median      last   trend   limit")
    for name, values in series.items():
        values = values[len(values) // 10 :]
        middle = statistics.median(values)
        grown = trend(values) / middle if middle else 0.0
        bad = grown > LIMITS[name]
        failed |= bad
        row = f"{values[0]:10.2f}{middle:10.2f}{values[-1]:10.2f}"
        print(f"{name:24}{row}{grown:+8.1%}{LIMITS[name]:8.0%}{'  GROWS' if bad else ''}")
    print(f"report.html: {page / 1e6:.2f} MB")
    print(machine("lightning", "transformers"))
    return failed


if __name__ == "__main__":
    sys.exit(main())
