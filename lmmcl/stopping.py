"""SIGTERM: noted when it comes, obeyed where the sequence can save."""

from __future__ import annotations

import signal
import time
from types import FrameType
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

EXIT_CODE = 128 + signal.SIGTERM
_GRACE_SECONDS = 3.0


class StopSignal:
    """Catches SIGTERM for the time of a fit and hands it on to the processes that this one launched."""

    def __init__(self) -> None:
        self.requested = False
        self._before: Any = None
        self._caught = False

    def catch(self, trainer: Trainer) -> None:
        """Takes the signal; again, whenever somebody else took it."""

        def stop(number: int, frame: FrameType | None) -> None:
            launcher = trainer.strategy.launcher
            if not self.requested and isinstance(launcher, _SubprocessScriptLauncher):
                launcher.kill(number)
            self.requested = True

        if not self._caught:
            self._before, self._caught = signal.getsignal(signal.SIGTERM), True
        signal.signal(signal.SIGTERM, stop)

    def release(self) -> None:
        """Gives the signal back to whoever had it."""
        if self._caught:
            signal.signal(signal.SIGTERM, self._before or signal.SIG_DFL)
            self._caught = False


def end_launched(trainer: Trainer) -> None:
    """After an error: ends the processes that this one launched, which may wait for it in a collective for ever."""
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher) and launcher.procs:
        time.sleep(_GRACE_SECONDS)  # most met the same error and end by themselves
        launcher.kill(signal.SIGKILL)
