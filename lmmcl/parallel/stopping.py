"""How a run ends before its time: by a signal, where it can save; by an error or a death, on all processes."""

from __future__ import annotations

import signal
import threading
import time
import warnings
from types import FrameType
from typing import Any

import torch.distributed as dist
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from lmmcl.parallel.peers import Peers
from lmmcl.run.saver import end_saves

EXIT_CODE = 128 + signal.SIGTERM
STOPS = (signal.SIGTERM, signal.SIGUSR1)
"""What asks a run to stop; SLURM can send either some time before it ends a job."""
_GRACE_SECONDS = 3.0
_SAVE_SECONDS = 15.0
"""For which a checkpoint is still written after a death: it may have taken 40 seconds until that was noticed."""


class StopSignal:
    """Catches the signals for the time of a fit and hands them on to the processes that this one launched."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}
        self._told = False

    def catch(self, trainer: Trainer) -> None:
        """Takes the signals; again, whenever somebody else took them. Python lets its main thread do so alone."""
        if threading.current_thread() is not threading.main_thread():
            if not self._told and trainer.is_global_zero:
                warnings.warn(
                    "this fit runs outside of the main thread, which alone can catch SIGTERM: who stops it so ends it "
                    "unsaved, and --ckpt_path last goes on from its newest checkpoint.",
                    stacklevel=2,
                )
            self._told = True
            return

        def stop(number: int, frame: FrameType | None) -> None:
            launcher = trainer.strategy.launcher
            if not self.requested and isinstance(launcher, _SubprocessScriptLauncher):
                launcher.kill(number)
            self.requested = True

        for number in STOPS:
            self._before.setdefault(number, signal.getsignal(number))
            signal.signal(number, stop)

    def release(self) -> None:
        """Gives the signals back to whoever had them."""
        while self._before:
            number, before = self._before.popitem()
            signal.signal(number, before or signal.SIG_DFL)


def end_launched(trainer: Trainer) -> None:
    """After an error: ends the processes that this one launched, which may wait for it in a collective for ever."""
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher) and launcher.procs:
        time.sleep(_GRACE_SECONDS)  # most met the same error and end by themselves
        launcher.kill(signal.SIGKILL)


def connect_peers(trainer: Trainer, advice: str) -> Peers:
    """Connects the processes of a run, so that the death of one ends the others; collective.

    Args:
        trainer: whose processes are set up.
        advice: how to go on, said where one has died.

    Returns:
        what to leave when the run ends; alone where there is one process.
    """

    def end_mine(dead: int) -> None:
        end_saves(_SAVE_SECONDS, dead)
        if isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher):
            trainer.strategy.launcher.kill(signal.SIGKILL)

    def exchange(mine: Any) -> list[Any]:
        everybody: list[Any] = [None] * trainer.world_size
        dist.all_gather_object(everybody, mine)
        return everybody

    peers = Peers(advice, end_mine)
    strategy = trainer.strategy
    if trainer.world_size > 1 and isinstance(strategy, ParallelStrategy):
        assert strategy.cluster_environment is not None
        missing = peers.begin(trainer.global_rank, strategy.cluster_environment.main_address, exchange)
        if missing and trainer.is_global_zero:
            warnings.warn(
                f"processes {', '.join(map(str, missing))} do not reach the first one over TCP: should one of them "
                "die, the others wait for it until the timeout of trainer.strategy.",
                stacklevel=2,
            )
    return peers
