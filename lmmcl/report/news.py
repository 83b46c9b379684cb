"""What is said of a sequence in any case: its plan, notices, a table after every stage, the summary at the end."""

from __future__ import annotations

import sys

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from typing_extensions import override

from lmmcl.cost import read_cost
from lmmcl.data.task import Task
from lmmcl.evaluation.matrix import Matrix
from lmmcl.model import ContinualLMM
from lmmcl.report.artefacts import load_summary
from lmmcl.report.plan import plan
from lmmcl.report.terminal import final_summary, stage_table
from lmmcl.report.write_run import REPORT

_FILE_WIDTH = 100


class SequenceNews(Callback):
    """Prints what nobody should miss, a few lines a stage; only the first process does.

    Args:
        console: where to print; None: the standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self.console = console or _console()
        self._on = True

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        assert isinstance(pl_module, ContinualLMM)
        self._on = self._on and trainer.is_global_zero
        if self._on:
            pl_module.sequence.report_notice = self._line_of
            pl_module.sequence.report_stage = self._stage

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, ContinualLMM)
        if self._on:
            self.console.print(plan(trainer, pl_module))

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, ContinualLMM)
        position = pl_module.sequence.position
        if self._on and pl_module.hparams["resume"] and position.step and pl_module.task:
            place = place_text(pl_module, pl_module.task)
            self.console.print(f"going on with {place} after step {position.step}", highlight=False)

    def _stage(self, matrix: Matrix, name: str, variant: str) -> None:
        if not variant:
            self.console.print(stage_table(matrix, name))
            return
        stage = next(row for row in matrix.stages if (row.name, row.variant) == (name, variant))
        groups = {"targets": matrix.targets, "held-out": matrix.held_out}
        means = [
            f"{group} {sum(stage.cells[task].score for task in tasks) / len(tasks):.1f}"
            for group, tasks in groups.items()
            if tasks and all(task in stage.cells for task in tasks)
        ]
        self._line_of(f"{stage.title}: {', '.join(means)}")

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, ContinualLMM)
        if not self._on:
            return
        summary = load_summary(pl_module.run_path)
        if summary is not None:
            costs = read_cost(pl_module.run_path)
            self.console.print(final_summary(pl_module.sequence.matrix, summary, self.console.width, costs))
        page = pl_module.run_path / REPORT
        if page.exists():
            self._line_of(f"report: {page}")
        self._line_of(f"run: {pl_module.run_path}")

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, ContinualLMM)
        if self._on:
            self._line_of(f"answers and scores: {pl_module.run_path}")

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self._on and isinstance(exception, SystemExit | KeyboardInterrupt):
            saved = "all is saved" if isinstance(exception, SystemExit) else "the last checkpoint is whole"
            self._line_of(f"stopped as asked, {saved}: go on with --ckpt_path last")

    def _line_of(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)


def place_text(module: ContinualLMM, task: Task) -> str:
    """Which of the sequence's tasks the present one is."""
    return f"task {module.sequence.position.stage} of {len(module.data.tasks)} {task.name}"


def _console() -> Console:
    """The standard output; a file or a pipe gets a width of its own, since no terminal says one."""
    return Console(width=None if sys.stdout.isatty() else _FILE_WIDTH)
