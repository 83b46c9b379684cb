"""Lightning's hooks, by which one `Trainer.fit` runs a sequence of tasks."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from typing_extensions import override

from lmmcl.agreement import agreed
from lmmcl.errors import UserError
from lmmcl.model import ContinualLMM
from lmmcl.parallel.peers import Peers
from lmmcl.parallel.stopping import connect_peers, end_launched
from lmmcl.run.run_lock import RunLock
from lmmcl.sequence.decisive import decisive_config
from lmmcl.sequence.disk import check_disk
from lmmcl.sequence.loops import place_loops
from lmmcl.sequence.memory_check import check_memory_settings
from lmmcl.sequence.task_sequence import TaskSequence
from lmmcl.sequence.trainer_check import check_trainer, drop_default_checkpoint


class SequenceDriver(Callback):
    """Drives a `TaskSequence`, and holds what a run needs of the machine while it lasts: lock, signals, peers.

    ``ContinualLMM`` brings it along.
    """

    def __init__(self) -> None:
        self.sequence = TaskSequence()
        self._lock = RunLock()
        self._peers = Peers("")
        self._limit_val_batches: int | float | None = None

    @staticmethod
    def check(trainer: Trainer) -> None:
        """Refuses what a sequence cannot run with; see `check_trainer`."""
        check_trainer(trainer, fitting=trainer.state.fn == TrainerFn.FITTING)

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        module = _continual(pl_module)
        check_memory_settings(trainer, module)
        self._peers = connect_peers(
            trainer, "Go on with --ckpt_path last." if stage == "fit" else "Try again."
        )
        drop_default_checkpoint(trainer)
        self.sequence.open(trainer, module)
        if stage != "fit":
            return
        run = self.sequence.run
        with agreed():
            self._lock.take(run.path, trainer.is_global_zero)
        run.check(decisive_config(module), module.hparams["resume"])
        trainer.fit_loop.max_epochs = sum(task.epochs for task in module.data.tasks)
        trainer.reload_dataloaders_every_n_epochs = 1  # type: ignore[attr-defined]  # untyped in Lightning
        self._limit_val_batches, trainer.limit_val_batches = trainer.limit_val_batches, 0
        trainer.num_sanity_val_steps = 0

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module, sequence = _continual(pl_module), self.sequence
        module.refuse_second_fit()
        for callback in module.stage_callbacks:
            callback._fitted = True
        check_disk(trainer, module)
        sequence.stop.catch(trainer)
        sequence.begin(trainer, module)
        if sequence.position.phase == "done":
            trainer.limit_train_batches = 0
            return
        epoch, step = sequence.present.epoch_and_step(sequence.position.step)
        place_loops(
            trainer,
            epochs=sum(t.epochs for t in module.data.tasks[: sequence.present.index]) + epoch,
            batches=step * trainer.accumulate_grad_batches,
            position=sequence.position,
        )

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.sequence.stop.catch(trainer)  # Lightning has put its own handler over ours
        # It has no signal to tell of, and would ask all processes at every batch, and wait for the device.
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
        self.sequence.run_log.start_task()

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.sequence.cost.trained(batch)
        if self.sequence.is_new_step(trainer):
            self.sequence.step_ended(trainer, _continual(pl_module))

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.sequence.epoch_ended(trainer, _continual(pl_module))

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.sequence.measure(trainer, _continual(pl_module))

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        position = self.sequence.position
        if position.phase != "done":
            raise UserError(
                f"the fit was stopped in stage {position.stage} before the sequence ended (by a callback that set "
                "trainer.should_stop). Remove it, and go on with --ckpt_path last."
            )

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._peers.leave()
        self._release(trainer)

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._peers.leave(exception)
        self._release(trainer)
        if isinstance(exception, Exception):
            end_launched(trainer)

    def _release(self, trainer: Trainer) -> None:
        self.sequence.stop.release()
        self.sequence.saver.close()
        self._lock.release()
        self.sequence.cost.end()
        if self._limit_val_batches is not None:
            trainer.limit_val_batches, self._limit_val_batches = self._limit_val_batches, None


def _continual(module: LightningModule) -> ContinualLMM:
    if not isinstance(module, ContinualLMM):
        raise UserError(f"SequenceDriver drives a ContinualLMM, got {type(module).__name__}.")
    return module
