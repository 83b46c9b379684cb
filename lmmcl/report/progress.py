"""One line of progress for a whole sequence, below what is said of it in any case."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar as Bar
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from lmmcl.foreseen import foresee
from lmmcl.model import ContinualLMM
from lmmcl.report.clock import SequenceClock, clock_text
from lmmcl.report.news import SequenceNews, place_text

_EVERY_SECONDS = 0.5
_PLAIN_EVERY_SECONDS = 10.0
_NARROWEST_BAR = 6


class SequenceProgress(SequenceNews, ProgressBar):
    """What `SequenceNews` says, and how far a sequence is; only the first process shows anything.

    On a terminal one line is kept up to date below what was printed; elsewhere plain lines are printed, at most one
    every ten seconds, without control characters.

    Args:
        console: where to print; None: the standard output.

    Attributes:
        reads_numbers: it reads `ContinualLMM.numbers` when it draws, and Lightning need not at every step.
    """

    reads_numbers = True

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console)
        self._live: Live | None = None
        self._clock = SequenceClock([])
        self._position = (0, 0)
        self._head, self._tail, self._share = "", "", 0.0
        self._numbers: dict[str, float] = {}
        self._seen = self._said = self._stepped = 0.0

    @override
    def disable(self) -> None:
        self._on = False

    @override
    def enable(self) -> None:
        self._on = True

    # Before

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        assert isinstance(pl_module, ContinualLMM)
        if not self._on:
            return
        pl_module.sequence.report_progress = lambda task, done, total: self._measure(
            pl_module, task, done, total
        )
        self._say(f"loading {pl_module.hparams['path']}", "", 0.0, force=True)
        if self.console.is_terminal:
            self._live = Live(
                get_renderable=self._line, console=self.console, refresh_per_second=4, transient=True
            )
            self._live.start()

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_fit_start(trainer, pl_module)
        assert isinstance(pl_module, ContinualLMM)
        if self._on:
            data = pl_module.data
            self._clock = SequenceClock(
                [foresee(data, i, pl_module.mitigations).steps for i in range(len(data.tasks))]
            )

    # During

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        now = time.monotonic()
        self._clock.measured(now)
        self._stepped = now

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, ContinualLMM)
        if not self._on or not pl_module.sequence.is_new_step(trainer) or pl_module.task is None:
            return
        now = time.monotonic()
        self._clock.stepped(now - self._stepped)
        self._stepped = now
        position = pl_module.sequence.position
        step, total = position.step + 1, pl_module.steps_in_task  # the driver counts the step after us
        self._position = (position.stage, step)
        if "held_out_kl" in pl_module.numbers:
            self._numbers["held-out KL"] = float(pl_module.numbers["held_out_kl"])
        if now - self._seen >= _EVERY_SECONDS or step == total:
            # Reading a number waits for the device: not at every step.
            self._numbers = {"loss": float(pl_module.numbers["loss"]), **_without(self._numbers, "loss")}
            self._seen = now
        texts = [f"step {step}/{total}", *(f"{name} {value:.3g}" for name, value in self._numbers.items())]
        self._say(place_text(pl_module, pl_module.task), " · ".join(texts), step / total, force=step == total)
        if step == total:
            self._numbers.pop("loss", None)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._say("writing summary and pictures", "", 1.0)

    def _measure(self, module: ContinualLMM, task: str, done: int, total: int) -> None:
        self._clock.measuring(time.monotonic())
        stage, count = module.sequence.position.stage, len(module.data.tasks)
        self._position = (stage, module.sequence.position.step)
        what = f"stage {stage} of {count}" if stage else "the base model"
        self._say(f"measuring {what}", f"{task} {done}/{total}", done / total)

    # After

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()
        super().on_fit_end(trainer, pl_module)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()
        super().on_validation_end(trainer, pl_module)

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()
        super().on_exception(trainer, pl_module, exception)

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    # The line

    def _say(self, head: str, tail: str, share: float, force: bool = False) -> None:
        self._head, self._tail, self._share = head, tail, share
        now = time.monotonic()
        if (
            self._live is None
            and not self.console.is_terminal
            and (force or now - self._said >= _PLAIN_EVERY_SECONDS)
        ):
            self._said = now
            self.console.print(
                " · ".join(filter(None, (head, self._with_time()))), highlight=False, soft_wrap=True
            )

    def _with_time(self) -> str:
        left = self._clock.left(*self._position, time.monotonic()) if self._clock.steps else None
        return " · ".join(filter(None, (self._tail, f"{clock_text(left)} left" if left else "")))

    def _line(self) -> RenderableType:
        head, tail = Text(self._head, style="bold", no_wrap=True), Text(self._with_time(), no_wrap=True)
        room = self.console.width - head.cell_len - tail.cell_len - 3
        line = Table.grid(padding=(0, 1))
        bar = [Bar(1.0, self._share, width=min(room, 40))] if room >= _NARROWEST_BAR and tail else []
        line.add_row(head, *bar, tail)
        return line


def _without(numbers: dict[str, float], name: str) -> dict[str, float]:
    return {other: value for other, value in numbers.items() if other != name}
