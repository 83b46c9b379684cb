"""A toy sequence in processes that are killed with SIGKILL at drawn moments, and resumed until it ends."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from lmmcl.callbacks import HeldOutEvaluation, LwF, WiSEFT
from lmmcl.data.batches.order import draw
from lmmcl.run.checkpoint import MANIFEST
from tests.tiny_run import contents
from tests.toy import toy_data, toy_module, toy_trainer

_SLOWED_SECONDS = 0.002
"""By which every sync of a file takes longer: a tiny checkpoint would hardly ever be met in mid-write."""

_REACH = 0.7
"""Of the time that a run takes with all its kills: with all of it, every second run would not be killed once."""


class _NoReport(HeldOutEvaluation):
    """Measures as it does, without figures, which take longer than the sequence."""

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing."""


def _fit(checkpoint: Path, run: Path, output: Path) -> None:
    with output.open("a") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sync = os.fsync

    def slow_sync(fd: Any) -> None:
        time.sleep(_SLOWED_SECONDS)
        sync(fd)

    os.fsync = slow_sync
    quiet_lightning()
    callbacks: list[Callback] = [
        _NoReport(canary_every_n_steps=2, canary_samples=4),
        LwF(),
        WiSEFT(alpha=0.3),
    ]
    module = toy_module(checkpoint, run, resume=(run / "config.json").exists())
    toy_trainer(callbacks=callbacks).fit(module, toy_data(max_eval_samples=4))


def quiet_lightning() -> None:
    """Leaves out what it says about itself."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


def forked() -> ForkServerContext:
    """Starts processes that have the imports behind them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lmmcl.cli.sequence_cli", "tests.killed_runs"])
    return context


@dataclass
class Killed:
    """What became of runs.

    Args:
        kills: how often a process was killed.
        runs: how many sequences were brought to their end.
        places: of the kills, by the newest checkpoint and whether one was being written.
        different: files of a run that was killed which are not those of one that was not.
    """

    kills: int = 0
    runs: int = 0
    places: Counter[tuple[str, bool]] = field(default_factory=Counter)
    different: list[str] = field(default_factory=list)

    @property
    def in_a_save(self) -> int:
        """Kills that met a checkpoint in mid-write."""
        return sum(count for (_, writing), count in self.places.items() if writing)


class Moments:
    """When lives of runs end: drawn by counter, within a share of the time that a run takes however often it is killed.

    That time is learned as it goes: the last run's, or the present one's once that has taken longer. So the kills meet
    all parts of a run also where the machine has become busier, or less busy, since the beginning.

    Args:
        seconds: that a run took which was left alone.
        seed: of the draw.
    """

    def __init__(self, seconds: float, seed: int) -> None:
        self._seconds, self._seed = seconds, seed
        self._lives, self._lived = 0, 0.0

    def draw(self) -> float:
        """Seconds until the next kill, from the beginning of a life."""
        share: float = draw(1, self._seed, "kill", self._lives)[0] / 2.0**64
        self._lives += 1
        return share * _REACH * max(self._seconds, self._lived)

    def lived(self, seconds: float, ended: bool) -> None:
        """Learns how long a life was, and whether the run has ended with it."""
        self._lived += seconds
        if ended:
            self._seconds, self._lived = self._lived, 0.0


def killed_runs(checkpoint: Path, folder: Path, kills: int, seed: int = 0) -> Iterator[Killed]:
    """Kills so often, and brings the last run to its end; gives what was found after each run.

    Raises:
        RuntimeError: a process ended by itself, and not well.
    """
    context, found = forked(), Killed()
    _live(context, checkpoint, folder / "first", None)  # it pays for the imports
    started = time.monotonic()
    _live(context, checkpoint, folder / "whole", None)
    moments = Moments(time.monotonic() - started, seed)
    expected = contents(folder / "whole")
    while found.kills < kills:
        run, ended = folder / "killed", False
        while not ended:
            started = time.monotonic()
            ended = _live(context, checkpoint, run, moments.draw() if found.kills < kills else None)
            moments.lived(time.monotonic() - started, ended)
            if not ended:
                found.kills += 1
                found.places[_place(run)] += 1
        found.runs += 1
        held = contents(run)
        found.different += sorted(
            name for name in held.keys() | expected.keys() if held.get(name) != expected.get(name)
        )
        shutil.rmtree(run)
        yield found


def _live(context: ForkServerContext, checkpoint: Path, run: Path, delay: float | None) -> bool:
    """One process of a run; whether it ended before it was killed."""
    output = run.with_name(run.name + ".output")
    process = context.Process(target=_fit, args=(checkpoint, run, output))
    process.start()
    process.join(delay)
    process.kill()
    process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{run} ended with {process.exitcode}:\n{output.read_text()[-3000:]}")
    return process.exitcode == 0


def _place(run: Path) -> tuple[str, bool]:
    folders = sorted((run / "last").glob("*"))
    whole = [folder.name for folder in folders if (folder / MANIFEST).exists()]
    return max(whole, default="none"), len(whole) < len(folders)
