"""The task that a sequence trains at present: its rows, what trains, its optimizer, and what is served next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lightning.pytorch import Trainer

from lmmcl.agreement import agreed
from lmmcl.data.bad_row import write_bad_rows
from lmmcl.data.row import Row
from lmmcl.data_parallel import share
from lmmcl.model import ContinualLMM
from lmmcl.parallel.strategy import FSDP2Strategy, wrap_again
from lmmcl.sequence.dry_backward import freeze_what_gets_no_gradient
from lmmcl.sequence.kept_rows import keep_rows
from lmmcl.sequence.packing_proof import prove_packing
from lmmcl.window import JoinedSets

_PROBED = 8
"""Rows of the backward pass that finds parameters without a gradient."""


@dataclass(frozen=True)
class PresentTask:
    """A task that `prepare` made ready to train.

    Args:
        index: its position, from 0.
        rows: that it trains on, as mitigations left them.
        steps_per_epoch: optimizer steps, from 1.
    """

    index: int
    rows: Sequence[Row]
    steps_per_epoch: int

    @classmethod
    def prepare(cls, trainer: Trainer, module: ContinualLMM, index: int) -> PresentTask:
        """Chooses rows and what trains, wraps the model for it, and makes the optimizer; collective.

        Mitigations choose a task's rows with their own state and weights, as they are then.

        Args:
            trainer: whose fit is running.
            module: with the weights that the task begins with, or goes on with.
            index: position of the task, from 0.
        """
        data, task = module.data, module.data.tasks[index]
        module.begin_task(task)
        rows = data.train_rows(index)
        for mitigation in module.mitigations:
            rows = mitigation.select(trainer, module, task, rows)
        module.present_step.joined = JoinedSets(
            {m.name: m.join(trainer, module, task) for m in module.mitigations}
        )
        with agreed():
            if trainer.is_global_zero:
                write_bad_rows(module.sequence.run.path, data.bad_rows)
        present = cls(index, rows, data.steps.per_epoch(task, len(rows)))
        module.steps_in_task = present.steps_per_epoch * task.epochs
        present._fit_to_hardware(trainer, module)
        return present

    def _fit_to_hardware(self, trainer: Trainer, module: ContinualLMM) -> None:
        """Packing, DDP's and FSDP2's view of what trains, optimizer and accumulation."""
        data = module.data
        trainer.strategy.model = module  # an old DDP wrapper would count the dry backward as its own
        sharded = isinstance(trainer.strategy, FSDP2Strategy)
        towers = {group.partition(".")[0] for group in module.trained.values()}
        data.collator.always_image = sharded or bool({"vision", "projector"} & towers)
        probed = _probed(self.rows)
        prove_packing(module, probed)
        freeze_what_gets_no_gradient(module, data.collator.train(probed).to(module.device))
        if frozen := module.without_gradient:
            module.sequence.report_notice(
                f"{data.tasks[self.index].name}: {len(frozen)} tensors of the recipe get no gradient and stay frozen: "
                f"{', '.join(frozen[:3])}{', ...' if len(frozen) > 3 else ''}"
            )
        if unkept := keep_rows(module, self.rows, probed):
            module.sequence.report_notice(unkept)
        wrap_again(trainer)
        trainer.strategy.setup_optimizers(trainer)
        joined = module.present_step.joined.sets
        trainer.accumulate_grad_batches = data.steps.forwards(data.tasks[self.index], share()[1], joined)

    def epoch_and_step(self, step: int) -> tuple[int, int]:
        """The epoch inside the task, from 0, and the step inside that epoch, of a step of the task."""
        return divmod(step, self.steps_per_epoch)

    def serve(self, module: ContinualLMM, step: int) -> None:
        """Tells the datamodule to go on with a step of the task, from 0."""
        joined = module.present_step.joined.sets
        module.data.begin(self.index, self.rows, *self.epoch_and_step(step), joined)


def _probed(rows: Sequence[Row]) -> list[Row]:
    """A few rows, and one with a picture if those have none: together they reach all that can train."""
    probe = list(rows[:_PROBED])
    other = None if any(row.images for row in probe) else next((row for row in rows if row.images), None)
    return probe if other is None else [*probe, other]
