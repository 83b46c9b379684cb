"""The sequence of tasks inside one `Trainer.fit`: where it stands, what is pending, and how it goes on after a kill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from typing_extensions import override

from lmmcl.agreement import agreed
from lmmcl.cost_meter import CostMeter
from lmmcl.data.bad_row import write_bad_rows
from lmmcl.data.row import Row
from lmmcl.data_parallel import share
from lmmcl.decisive import decisive_config
from lmmcl.disk import check_disk
from lmmcl.dry_backward import freeze_what_gets_no_gradient
from lmmcl.errors import UserError
from lmmcl.evaluation.evaluator import EvaluationStopped
from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.predictions import PredictionStore, result_key
from lmmcl.evaluation.result import TaskResult
from lmmcl.loops import place_loops
from lmmcl.memory_check import check_memory_settings
from lmmcl.model import ContinualLMM
from lmmcl.packing_proof import prove_packing
from lmmcl.parallel.peers import Peers
from lmmcl.parallel.stopping import EXIT_CODE, StopSignal, connect_peers, end_launched
from lmmcl.parallel.strategy import FSDP2Strategy, wrap_again
from lmmcl.position import Phase, Position, Stage
from lmmcl.proofs import prove_equal, prove_frozen
from lmmcl.resume import newest, restore_callbacks, restore_model, restore_optimizer, save
from lmmcl.run.checkpoint import Checkpoint
from lmmcl.run.log import RunLog
from lmmcl.run.run_folder import RunFolder
from lmmcl.run.run_lock import RunLock
from lmmcl.run.saver import Saver
from lmmcl.run.stage_tensors import StageTensors
from lmmcl.stage_writer import write_stage
from lmmcl.trainer_check import check_trainer, drop_default_checkpoint
from lmmcl.weights import checksums, fingerprint

_LOOKED_AT_EVERY = 20
"""Optimizer steps between two looks at whether the loss is finite; each waits for the device."""
_PROBED = 8
"""Rows of the backward pass that finds parameters without a gradient."""


class SequenceDriver(Callback):
    """Runs the sequence: phases at task boundaries, a fresh optimizer per task, checkpoints, and the way back in.

    ``ContinualLMM`` brings it along. A phase that is pending when a run is resumed is finished first, whatever
    Lightning's counters say: a checkpoint written on a task's last batch counts its epoch as complete, and Lightning
    would fire neither that epoch's end hook nor the next start hook.
    """

    def __init__(self) -> None:
        self.position = Position()
        self.matrix = Matrix([], [])
        self.sums: dict[str, str] = {}
        self._rows: Sequence[Row] = ()
        self._steps_per_epoch = 1
        self._stop = StopSignal()
        self._lock = RunLock()
        self._peers = Peers("")
        self.cost = CostMeter()
        self.saver = Saver()
        self._limit_val_batches: int | float | None = None
        self.report_progress: Callable[[str, int, int], None] = lambda task, done, total: None
        self.report_stage: Callable[[Matrix, str, str], None] = lambda matrix, name, variant: None
        self.report_notice: Callable[[str], None] = rank_zero_info

    # Before the fit

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        module = _continual(pl_module)
        check_trainer(trainer, fitting=stage == "fit")
        check_memory_settings(trainer, module)
        self._peers = connect_peers(
            trainer, "Go on with --ckpt_path last." if stage == "fit" else "Try again."
        )
        drop_default_checkpoint(trainer)
        self.run = RunFolder(trainer.strategy.broadcast(module.run_path))
        self.run_log = RunLog(self.run.logs, trainer.is_global_zero)
        self.saver, self._stages = Saver(trainer.num_nodes), StageTensors(self.run)
        module.data.attach(module.processor, module.max_length)
        self.matrix = Matrix([t.name for t in module.data.tasks], [t.name for t in module.data.held_out])
        if stage != "fit":
            return
        with agreed():
            self._lock.take(self.run.path, trainer.is_global_zero)
        self.run.check(decisive_config(module), module.hparams["resume"])
        trainer.fit_loop.max_epochs = sum(task.epochs for task in module.data.tasks)
        trainer.reload_dataloaders_every_n_epochs = 1  # type: ignore[attr-defined]  # untyped in Lightning
        self._limit_val_batches, trainer.limit_val_batches = trainer.limit_val_batches, 0
        trainer.num_sanity_val_steps = 0

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = _continual(pl_module)
        module.refuse_second_fit()
        check_disk(trainer, module)
        self._stop.catch(trainer)
        self.sums = checksums(module.parameters_by_name())
        checkpoint = newest(self.run, trainer) if module.hparams["resume"] else None
        if checkpoint is None:
            self.run.begin(decisive_config(module), trainer.is_global_zero)
            self.cost.begin(trainer, module, self.run.logs, self.position, resumed=False)
            self._save(trainer, module)
        else:
            self._restore(checkpoint, trainer, module)
            self.cost.begin(trainer, module, self.run.logs, self.position, resumed=True)
        self.run_log.begin(self.position.global_step)
        self._finish_pending(trainer, module)
        if self.position.phase == "done":
            trainer.limit_train_batches = 0
            return
        epoch, step = divmod(self.position.step, self._steps_per_epoch)
        self._serve(module)
        place_loops(
            trainer,
            epochs=sum(t.epochs for t in module.data.tasks[: self.position.stage - 1]) + epoch,
            batches=step * trainer.accumulate_grad_batches,
            position=self.position,
        )

    def _restore(self, checkpoint: Checkpoint, trainer: Trainer, module: ContinualLMM) -> None:
        """Brings back what a checkpoint holds; mitigations choose a task's rows with their own state and weights."""
        state = checkpoint.state
        self.position = Position(**state["position"])
        base = state["sums"] if self.position.stage == 0 else self.run.checksums(Stage(0, None, "").folder)
        if base != self.sums:
            odd = next(name for name in (*base, *self.sums) if self.sums.get(name) != base.get(name))
            raise UserError(
                f"--ckpt_path last: {module.hparams['path']} is not the model that {self.run.path} was begun with "
                f"({odd} differs). Put the former checkpoint back (model.revision), or start afresh with --run."
            )
        self.sums = state["sums"]
        if self.run.matrix.exists():
            self.matrix = Matrix.load(self.run.matrix)
        restore_callbacks(checkpoint, self.run, module)
        restore_model(checkpoint, module)
        if self.position.phase == "done":
            module.arrange(self.position.stage, ended=True)
        elif self.position.stage > 0:
            self._prepare(trainer, module)
        if self.position.phase == "train":
            restore_optimizer(checkpoint, trainer, module, self.position.step)

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
        self._stop.release()
        self.saver.close()
        self._lock.release()
        self.cost.end()
        if self._limit_val_batches is not None:
            trainer.limit_val_batches, self._limit_val_batches = self._limit_val_batches, None

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.position.phase != "done":
            raise UserError(
                f"the fit was stopped in stage {self.position.stage} before the sequence ended (by a callback that set "
                "trainer.should_stop, such as EarlyStopping). Remove it, and go on with --ckpt_path last."
            )

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.measure(trainer, _continual(pl_module))

    # Phases

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop.catch(trainer)  # Lightning has put its own handler over ours
        self.run_log.start_task()

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module = _continual(pl_module)
        self.cost.trained(batch)
        if not self.is_new_step(trainer):
            return
        self.position = replace(
            self.position, step=self.position.step + 1, global_step=self.position.global_step + 1
        )
        assert module.task is not None
        self.run_log.put(self.position.global_step, module.task.name, module.numbers)
        finished = self.position.step == module.steps_in_task
        due = self.position.step % module.hparams["checkpoint_every_n_steps"] == 0
        stop = self._all_stop(trainer)
        if self.position.step % _LOOKED_AT_EVERY == 0:
            module.check_finite()
        if (due or stop) and not finished:
            self._save(trainer, module)
        if stop and not finished:
            self._exit()

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = _continual(pl_module)
        if self.position.step == module.steps_in_task:
            self._enter(trainer, module, "end")
            self._finish_pending(trainer, module)
        if self.position.phase == "train":
            self._serve(module)

    def _finish_pending(self, trainer: Trainer, module: ContinualLMM) -> None:
        """Does what the position says is pending, until a task is to be trained or nothing is left."""
        while self.position.phase not in ("train", "done"):
            if self._all_stop(trainer):
                self._exit()
            if self.position.phase == "end":
                # 12 bytes a trained parameter that nobody needs any more, just before the evaluation needs memory.
                module.zero_grad(set_to_none=True)
                trainer.strategy.optimizers[0].state.clear()
                task = module.data.tasks[self.position.stage - 1]
                for callback in module.stage_callbacks:
                    callback.on_task_end(trainer, module, task)
                module.arrange(self.position.stage, ended=True)
                self._enter(trainer, module, "evaluate")
            elif self.position.phase == "evaluate":
                self.measure(trainer, module)
                self._enter(trainer, module, "write")
            else:
                self._write(trainer, module)
                self._next_task(trainer, module)

    def measure(self, trainer: Trainer, module: ContinualLMM, variant: str | None = None) -> dict[str, float]:
        """Measures the model as it stands and keeps the scores as a row of the matrix.

        Args:
            trainer: whose fit is running.
            module: the model to measure.
            variant: marks a second measurement of a stage, for example ``before WiSEFT``.

        Returns:
            score by task, from 0 to 100.
        """
        stage = self._stage(module, variant)
        results: dict[str, TaskResult] = {}
        try:
            with self.cost.measuring():
                for callback in module.stage_callbacks:
                    results.update(callback.evaluate(trainer, module, stage))
                self.saver.wait()  # what it cost is entered under the checkpoint before it
        except EvaluationStopped:
            self.obey_stop()
            return {}
        with agreed():
            if trainer.is_global_zero:
                store = PredictionStore(self.run.predictions)
                for result in results.values():
                    store.keep(stage.predictions, result_key(stage.weights, result.task, {}), result)
                write_bad_rows(self.run.path, module.data.bad_rows)
        if results:
            self.matrix.put(stage.index, stage.folder, results.values(), variant=variant or "")
            with agreed():
                if trainer.is_global_zero:
                    self.matrix.save(self.run.path)
            self.report_stage(self.matrix, stage.folder, variant or "")
        return {name: result.mean for name, result in results.items()}

    def _stage(self, module: ContinualLMM, variant: str | None = None) -> Stage:
        index = self.position.stage
        task = module.data.tasks[index - 1] if index else None
        sums = checksums(module.parameters_by_name())
        return Stage(index, task, fingerprint(sums), variant)

    def _write(self, trainer: Trainer, module: ContinualLMM) -> None:
        """Proves the frozen tensors unchanged, writes the stage, and tells the callbacks its scores."""
        now = checksums(module.parameters_by_name())
        prove_frozen(self.sums, now, module.may_change())
        prove_equal(now)
        stage = self._stage(module)
        write_stage(self.run, trainer, module, stage, now)
        self.sums = now
        row = next((row for row in self.matrix.finals if row.index == stage.index), None)
        scores = {name: cell.score for name, cell in row.cells.items()} if row else {}
        for callback in module.stage_callbacks:
            callback.on_stage_end(trainer, module, stage.task, scores)

    def _next_task(self, trainer: Trainer, module: ContinualLMM) -> None:
        """Starts the next task, or ends the sequence."""
        if self.position.stage == len(module.data.tasks):
            self._enter(trainer, module, "done")
            self.saver.free()
            return
        self.position = Position(self.position.stage + 1, "train", 0, self.position.global_step)
        self.cost.at(self.position)
        self._prepare(trainer, module)
        assert module.task is not None
        for callback in module.stage_callbacks:
            callback.on_task_start(trainer, module, module.task)
        self.run_log.start_task()
        self._save(trainer, module)

    def _prepare(self, trainer: Trainer, module: ContinualLMM) -> None:
        """Rows, trained set, DDP's view of it, optimizer: all that belongs to the position's task."""
        index = self.position.stage - 1
        data, task = module.data, module.data.tasks[index]
        module.begin_task(task)
        rows = data.train_rows(index)
        for mitigation in module.mitigations:
            rows = mitigation.select(trainer, module, task, rows)
        module.join(trainer, task)
        with agreed():
            if trainer.is_global_zero:
                write_bad_rows(self.run.path, data.bad_rows)
        self._rows = rows
        self._steps_per_epoch = data.steps_per_epoch(len(rows), index)
        module.steps_in_task = self._steps_per_epoch * task.epochs
        trainer.strategy.model = module  # an old DDP wrapper would count the dry backward as its own
        sharded = isinstance(trainer.strategy, FSDP2Strategy)
        towers = {group.partition(".")[0] for group in module.trained.values()}
        data.collator.always_image = sharded or bool({"vision", "projector"} & towers)
        prove_packing(module, _probe(rows))
        freeze_what_gets_no_gradient(module, data.collator.train(_probe(rows)).to(module.device))
        if module.without_gradient:
            self.report_notice(
                f"{task.name}: {len(module.without_gradient)} tensors of the recipe get no gradient and stay frozen: "
                f"{', '.join(module.without_gradient[:3])}{', ...' if len(module.without_gradient) > 3 else ''}"
            )
        wrap_again(trainer)
        trainer.strategy.setup_optimizers(trainer)
        trainer.accumulate_grad_batches = data.accumulate(share()[1], index, module.joined.sets)

    def _serve(self, module: ContinualLMM) -> None:
        """Tells the datamodule what to hand out next."""
        epoch, step = divmod(self.position.step, self._steps_per_epoch)
        module.data.begin(self.position.stage - 1, self._rows, epoch, step, module.joined.sets)

    def _enter(self, trainer: Trainer, module: ContinualLMM, phase: Phase) -> None:
        self.position = replace(self.position, phase=phase)
        self._save(trainer, module)

    def _save(self, trainer: Trainer, module: ContinualLMM) -> None:
        """Starts to save; what the logs say of the steps until now is on disk before, and the save before is whole."""
        self.saver.wait()
        with agreed():
            self.run_log.flush()
        self.cost.save(self.position)
        save(self.saver, self._stages, trainer, module, self.position, self.sums)

    # Stopping

    def is_new_step(self, trainer: Trainer) -> bool:
        """In ``on_train_batch_end``: whether this batch completed an optimizer step."""
        return bool(trainer.global_step > self.position.global_step)

    @property
    def stop_requested(self) -> bool:
        """Whether this process was asked to stop."""
        return self._stop.requested

    def obey_stop(self) -> None:
        """After a stopped evaluation: ends the process; inside a task it does not, since the step is saved first."""
        if self.position.phase != "train":
            self._exit()

    def _all_stop(self, trainer: Trainer) -> bool:
        """Whether any process was asked to stop; where one could not write its part of a checkpoint, all raise that."""
        mine = self._stop.requested or self.saver.failed
        stop = bool(trainer.strategy.reduce_boolean_decision(mine, all=False))
        if stop:
            self.saver.check()
        return stop

    def _exit(self) -> None:
        self.saver.wait()
        raise SystemExit(EXIT_CODE)


def _continual(module: LightningModule) -> ContinualLMM:
    if not isinstance(module, ContinualLMM):
        raise UserError(f"SequenceDriver drives a ContinualLMM, got {type(module).__name__}.")
    return module


def _probe(rows: Sequence[Row]) -> list[Row]:
    """A few rows, and one with a picture if those have none: together they reach all that can train."""
    probe = list(rows[:_PROBED])
    other = None if any(row.images for row in probe) else next((row for row in rows if row.images), None)
    return probe if other is None else [*probe, other]
