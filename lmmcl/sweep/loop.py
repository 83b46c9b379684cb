"""The loop of a sweep: so many processes at a time, each run resumed where it was, none that is finished run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lmmcl.errors import UserError
from lmmcl.sweep.grid import Planned
from lmmcl.sweep.state import state_of

LOGS = "logs"
CRITICAL_LOST = 3
"""Exit code of a run that is complete and lost an answer that was marked critical."""
_LOOK_SECONDS = 0.2


@dataclass
class Running:
    """One run in a process of its own."""

    run: Planned
    process: subprocess.Popen[bytes]
    place: int
    log_from: int
    """Bytes of its log that former processes wrote."""
    began: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        run: which.
        code: exit code of its process; minus a signal's number where that ended it.
        seconds: it took in this sweep.
        reason: the last line it said, where it failed.
    """

    run: Planned
    code: int
    seconds: float
    reason: str

    @property
    def complete(self) -> bool:
        """Whether the run came to its end."""
        return self.code in (0, CRITICAL_LOST)

    @property
    def ending(self) -> str:
        """How its process ended, in words."""
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            return f"killed by {signal.Signals(-self.code).name}"
        except ValueError:  # a real-time signal has no name
            return f"killed by signal {-self.code}"


class Loop:
    """Runs what is left of a sweep.

    Args:
        runs: those that are not finished, in order.
        jobs: how many at a time, from 1.
        gpus: one of these for each of the jobs (``CUDA_VISIBLE_DEVICES``); none: every run sees all.
        logs: folder of what the runs say.
        began: told of every run that starts, with the place it takes.
        ended: told of every run that ends.
        elsewhere: told of every run that another process began in the meantime; it is left to that.

    Raises:
        UserError: ``jobs`` is out of range, or there are too few GPUs for it.
    """

    def __init__(
        self,
        runs: Sequence[Planned],
        jobs: int,
        gpus: Sequence[str],
        logs: Path,
        began: Callable[[Planned], None],
        ended: Callable[[Outcome], None],
        elsewhere: Callable[[Planned], None],
    ) -> None:
        if jobs < 1:
            raise UserError(f"--jobs must be at least 1, got {jobs}.")
        if gpus and len(gpus) < jobs:
            raise UserError(f"--jobs must be at most the number of --gpus, {len(gpus)}, got {jobs}.")
        self._left = list(runs)
        self._jobs, self._gpus, self._logs = jobs, gpus, logs
        self._began, self._ended, self._elsewhere = began, ended, elsewhere
        self._running: list[Running] = []
        self._stopped = False

    def run(self) -> list[Outcome]:
        """Runs all; a run that fails does not keep others from running.

        SIGINT, SIGTERM and SIGHUP are passed on: the runs save where they stand and end.

        Returns:
            how each ended, in that order.

        Raises:
            KeyboardInterrupt: it was asked to stop; all processes have ended by then.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        heard = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]  # nohup
        former = {number: signal.signal(number, self._stop) for number in heard}
        outcomes: list[Outcome] = []
        try:
            while self._running or (self._left and not self._stopped):
                while self._left and len(self._running) < self._jobs and not self._stopped:
                    self._start(self._left.pop(0))
                outcomes += self._collect()
                time.sleep(_LOOK_SECONDS)
        finally:
            for running in self._running:
                running.process.terminate()
            for running in self._running:
                running.process.wait()
            for number, handler in former.items():
                signal.signal(number, handler)
        if self._stopped:
            raise KeyboardInterrupt
        return outcomes

    def _start(self, run: Planned) -> None:
        taken = {running.place for running in self._running}
        place = next(place for place in range(self._jobs) if place not in taken)
        threads = str(max(1, (os.cpu_count() or 1) // self._jobs))
        environment = {"OMP_NUM_THREADS": threads, **os.environ}
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[place]
        state = state_of(run.folder)
        if state == "running":
            self._elsewhere(run)
            return
        more = [] if state == "new" else ["--ckpt_path", "last"]
        with open(self.log_of(run), "ab") as log:
            log_from = log.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", "lmmcl", "fit", *run.words, *more],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # a Ctrl-C reaches it through us, once
            )
        self._running.append(Running(run, process, place, log_from))
        if self._stopped:  # while it was started: it stood in no list yet
            process.send_signal(signal.SIGTERM)
        self._began(run)

    def log_of(self, run: Planned) -> Path:
        """What a run says, on the terminal otherwise."""
        return self._logs / f"{run.name}.log"

    def _collect(self) -> list[Outcome]:
        """What has ended since."""
        ended = [running for running in self._running if running.process.poll() is not None]
        outcomes = []
        for running in ended:
            self._running.remove(running)
            code = running.process.returncode
            said_here = self.log_of(running.run).read_bytes()[running.log_from :]
            lines = said_here.decode(errors="replace").splitlines()
            said = [line.strip() for line in lines if line.strip()]
            errors = [line for line in said if line.startswith("lmmcl: error")]
            reason = (errors or said or ["it said nothing"])[-1]
            outcome = Outcome(running.run, code, time.monotonic() - running.began, reason)
            self._ended(outcome)
            outcomes.append(outcome)
        return outcomes

    def _stop(self, number: int, frame: object) -> None:
        self._stopped = True
        for running in self._running:
            running.process.send_signal(signal.SIGTERM)
