"""How long a sequence still takes, from what its parts have taken so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

_HALF_LIFE = 20.0


@dataclass
class SequenceClock:
    """Learns the pace of steps and of measuring a stage while the sequence runs.

    Args:
        steps: optimizer steps of every task, in order.
    """

    steps: Sequence[int]
    _pace: float | None = None
    _counted: int = 0
    _measuring: float | None = None
    _began: float | None = field(default=None, repr=False)

    def stepped(self, seconds: float) -> None:
        """One optimizer step took so long; newer steps weigh more, the first (caches, kernels) counts little."""
        if (
            self._began is not None
        ):  # a measurement in the middle of the task: the step says nothing of the pace
            self._began = None
            return
        self._counted += 1
        share = max(1.0 / self._counted, 1.0 / _HALF_LIFE)
        self._pace = (
            seconds
            if self._pace is None or self._counted == 2
            else self._pace + share * (seconds - self._pace)
        )

    def measuring(self, now: float) -> None:
        """The measurements between two tasks are on."""
        if self._began is None:
            self._began = now

    def measured(self, now: float) -> None:
        """They are over, and a task begins or the sequence ends."""
        if self._began is not None:
            self._measuring = now - self._began
            self._began = None

    def left(self, stage: int, step: int, now: float) -> float | None:
        """Seconds left, None as long as nothing is known.

        Args:
            stage: of the sequence: k while task k is trained or measured after, 0 while the base model is measured.
            step: optimizer steps done in that task.
            now: the clock's time.
        """
        training = sum(self.steps[stage:]) + (max(0, self.steps[stage - 1] - step) if stage else 0)
        stages = len(self.steps) - stage
        if self._began is not None:
            if self._measuring is None or (training and self._pace is None):
                return None
            here = max(0.0, self._measuring - (now - self._began))
            return here + stages * self._measuring + training * (self._pace or 0.0)
        if self._pace is None:
            return None
        return training * self._pace + (stages + (stage > 0)) * (self._measuring or 0.0)


def clock_text(seconds: float) -> str:
    """``1:12`` or ``2:03:45``."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
