"""Puts Lightning's loop counters where the sequence stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch import Trainer

if TYPE_CHECKING:
    from lmmcl.position import Position


def place_loops(trainer: Trainer, epochs: int, batches: int, position: Position) -> None:
    """Makes the fit loop go on after ``epochs`` whole epochs and ``batches`` batches of the next one.

    Args:
        trainer: before its fit loop runs.
        epochs: whole epochs done, over all tasks.
        batches: micro-batches done in the present epoch.
        position: gives the optimizer steps done.
    """
    fit = trainer.fit_loop
    middle = batches > 0
    state = fit.state_dict()
    for progress in (state["epoch_progress"]["total"], state["epoch_progress"]["current"]):
        progress.update(ready=epochs + middle, started=epochs + middle, processed=epochs, completed=epochs)
    progress = state["epoch_loop.batch_progress"]
    for part in (progress["total"], progress["current"]):
        part.update(ready=batches, started=batches, processed=batches, completed=batches)
    progress["is_last_batch"] = False
    steps = state["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    for part in (steps["total"], steps["current"]):
        part.update(ready=position.global_step, completed=position.global_step)
    state["epoch_loop.state_dict"] = {"_batches_that_stepped": position.global_step}
    fit.load_state_dict(state)
    if not middle:
        fit.restarting = False
