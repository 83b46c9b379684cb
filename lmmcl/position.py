"""Where a sequence stands: the position that every checkpoint carries, and the stage that is measured and written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lmmcl.data.task import Task

Phase = Literal["train", "end", "evaluate", "write", "done"]
PHASES: tuple[Phase, ...] = ("train", "end", "evaluate", "write", "done")


@dataclass(frozen=True)
class Position:
    """Where the sequence stands; saved with every checkpoint, and the only thing that says what comes next.

    Args:
        stage: 0 while the base model is measured, k while task k is trained, merged, measured and written.
        phase: what is pending at that stage.
        step: optimizer steps done in the stage's task.
        global_step: optimizer steps done in all tasks.
    """

    stage: int = 0
    phase: Phase = "evaluate"
    step: int = 0
    global_step: int = 0

    @property
    def ended(self) -> bool:
        """Whether the stage's task is trained and what follows from its end is done."""
        return self.phase in ("evaluate", "write", "done")

    @property
    def name(self) -> str:
        """Sorts as positions follow one another."""
        return f"{self.global_step:08d}-{self.stage:02d}-{PHASES.index(self.phase)}-{self.phase}"


@dataclass(frozen=True)
class Stage:
    """The model between two tasks.

    Args:
        index: 0 for the base model, k after the k-th task.
        task: the task just learned; None at stage 0.
        weights: checksum of all weights, 16 hex digits.
        variant: what distinguishes a second measurement of the stage, for example ``before WiSEFT``.
    """

    index: int
    task: Task | None
    weights: str
    variant: str | None = None

    @property
    def folder(self) -> str:
        """Name of its folder, such as ``01-species``."""
        return f"{self.index:02d}-{self.task.name if self.task else 'base'}"

    @property
    def predictions(self) -> str:
        """Name of its folder of predictions."""
        return self.name.replace(" ", "-")

    @property
    def name(self) -> str:
        """Name of its row of the matrix."""
        return f"{self.folder} {self.variant}" if self.variant else self.folder
