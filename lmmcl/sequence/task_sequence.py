"""The sequence of tasks inside one `Trainer.fit`: where it stands, what is pending, and how it goes on after a kill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from lmmcl.agreement import agreed, anywhere
from lmmcl.data.bad_row import write_bad_rows
from lmmcl.errors import UserError
from lmmcl.evaluation.evaluator import EvaluationStopped
from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.predictions import PredictionStore, result_key
from lmmcl.evaluation.rebuilt_matrix import was_measured
from lmmcl.evaluation.result import TaskResult
from lmmcl.model import ContinualLMM
from lmmcl.parallel.stopping import EXIT_CODE, StopSignal
from lmmcl.position import Phase, Position, Stage
from lmmcl.run.checkpoint import Checkpoint
from lmmcl.run.log import RunLog
from lmmcl.run.run_folder import RunFolder
from lmmcl.run.saver import Saver
from lmmcl.run.stage_tensors import StageTensors
from lmmcl.sequence.cost_meter import CostMeter
from lmmcl.sequence.decisive import decisive_config
from lmmcl.sequence.present_task import PresentTask
from lmmcl.sequence.proofs import prove_equal, prove_frozen
from lmmcl.sequence.resume import newest, restore_callbacks, restore_model, restore_optimizer, save
from lmmcl.sequence.stage_writer import write_stage
from lmmcl.weights import checksums, fingerprint

_LOOKED_AT_EVERY = 20
"""Optimizer steps between two looks at whether the loss is finite; each waits for the device."""


class TaskSequence:
    """Runs the phases at task boundaries, a fresh optimizer per task, checkpoints, and the way back in.

    A phase that is pending when a run is resumed is finished first, whatever Lightning's counters say: a checkpoint
    written on a task's last batch counts its epoch as complete, and Lightning would fire neither that epoch's end hook
    nor the next start hook. Callbacks find it as ``module.sequence``; `lmmcl.sequence.driver` calls it in Lightning's
    hooks.

    Attributes:
        position: where it stands.
        matrix: the scores of all stages measured so far.
        stop: whether this process was asked to stop.
        cost: meters what is spent.
        saver: writes the checkpoints.
        run: the run folder, once it is open.
        run_log: of its steps.
        present: the task that trains, in phase ``train``.
        report_progress: called with task, rows done and rows in all, while a stage is measured.
        report_stage: called with the matrix, the stage and its variant, when it is measured.
        report_notice: called with one line for the user.
    """

    run: RunFolder
    run_log: RunLog
    present: PresentTask

    def __init__(self) -> None:
        self.position = Position()
        self.matrix = Matrix([], [])
        self.stop = StopSignal()
        self.cost = CostMeter()
        self.saver = Saver()
        self.report_progress: Callable[[str, int, int], None] = lambda task, done, total: None
        self.report_stage: Callable[[Matrix, str, str], None] = lambda matrix, name, variant: None
        self.report_notice: Callable[[str], None] = rank_zero_info
        self._sums: dict[str, str] = {}

    # Where it begins

    def open(self, trainer: Trainer, module: ContinualLMM) -> None:
        """Opens the run folder, before anything is trained or measured; collective."""
        self.run = RunFolder(trainer.strategy.broadcast(module.run_path))
        self.run_log = RunLog(self.run.logs, trainer.is_global_zero)
        self.saver, self._stages = Saver(trainer.num_nodes), StageTensors(self.run)
        module.data.attach(module.processor, module.max_length)
        self.matrix = Matrix([t.name for t in module.data.tasks], [t.name for t in module.data.held_out])

    def begin(self, trainer: Trainer, module: ContinualLMM) -> None:
        """Begins, or goes on where the newest checkpoint stands, up to the next task's training; collective."""
        self._sums = checksums(module.parameters_by_name())
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
        if self.position.phase == "train":
            self.present.serve(module, self.position.step)

    def _restore(self, checkpoint: Checkpoint, trainer: Trainer, module: ContinualLMM) -> None:
        """Brings back what a checkpoint holds; mitigations choose a task's rows with their own state and weights."""
        state = checkpoint.state
        self.position = Position(**state["position"])
        base = state["sums"] if self.position.stage == 0 else self.run.checksums(Stage(0, None, "").folder)
        if base != self._sums:
            odd = next(name for name in (*base, *self._sums) if self._sums.get(name) != base.get(name))
            raise UserError(
                f"--ckpt_path last: {module.hparams['path']} is not the model that {self.run.path} was begun with "
                f"({odd} differs). Put the former checkpoint back (model.revision), or start afresh with --run."
            )
        self._sums = state["sums"]
        if self.run.matrix.exists() or was_measured(self.run.path):
            self.matrix = Matrix.load(self.run.matrix)
            with agreed():
                if trainer.is_global_zero:
                    self.matrix.save(self.run.path)  # it may have been made again
        restore_callbacks(checkpoint, self.run, module)
        restore_model(checkpoint, module)
        if self.position.phase == "done":
            module.arrange(self.position.stage, ended=True)
        elif self.position.stage > 0:
            self.present = PresentTask.prepare(trainer, module, self.position.stage - 1)
        if self.position.phase == "train":
            restore_optimizer(checkpoint, trainer, module, self.position.step)

    # Inside a task

    def is_new_step(self, trainer: Trainer) -> bool:
        """In ``on_train_batch_end``: whether this batch completed an optimizer step."""
        return bool(trainer.global_step > self.position.global_step)

    def step_ended(self, trainer: Trainer, module: ContinualLMM) -> None:
        """Logs the step, saves where it is time to, and stops where a process was asked to; collective."""
        self.position = replace(
            self.position, step=self.position.step + 1, global_step=self.position.global_step + 1
        )
        assert module.task is not None
        self.run_log.put(self.position.global_step, module.task.name, module.numbers)
        finished = self.position.step == module.steps_in_task
        due = self.position.step % module.hparams["checkpoint_every_n_steps"] == 0
        stop = self._all_stop()
        if self.position.step % _LOOKED_AT_EVERY == 0:
            module.present_step.check_finite()
        if (due or stop) and not finished:
            self._save(trainer, module)
        if stop and not finished:
            self._exit()

    def epoch_ended(self, trainer: Trainer, module: ContinualLMM) -> None:
        """Serves the next epoch: of this task, or of the next one once this one is measured and written."""
        if self.position.step == module.steps_in_task:
            self._enter(trainer, module, "end")
            self._finish_pending(trainer, module)
        if self.position.phase == "train":
            self.present.serve(module, self.position.step)

    # Between two tasks

    def _finish_pending(self, trainer: Trainer, module: ContinualLMM) -> None:
        """Does what the position says is pending, until a task is to be trained or nothing is left."""
        while self.position.phase not in ("train", "done"):
            if self._all_stop():
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
        prove_frozen(self._sums, now, module.may_change())
        prove_equal(now)
        stage = self._stage(module)
        write_stage(self.run, trainer, module, stage, now)
        self._sums = now
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
        self.present = PresentTask.prepare(trainer, module, self.position.stage - 1)
        assert module.task is not None
        for callback in module.stage_callbacks:
            callback.on_task_start(trainer, module, module.task)
        self.run_log.start_task()
        self._save(trainer, module)

    def _enter(self, trainer: Trainer, module: ContinualLMM, phase: Phase) -> None:
        self.position = replace(self.position, phase=phase)
        self._save(trainer, module)

    def _save(self, trainer: Trainer, module: ContinualLMM) -> None:
        """Starts to save; what the logs say of the steps until now is on disk before, and the save before is whole."""
        self.saver.wait()
        with agreed():
            self.run_log.flush()
        self.cost.save(self.position)
        save(self.saver, self._stages, trainer, module, self.position, self._sums)

    # Stopping

    def obey_stop(self) -> None:
        """After a stopped evaluation: ends the process; inside a task it does not, since the step is saved first."""
        if self.position.phase != "train":
            self._exit()

    def _all_stop(self) -> bool:
        """Whether any process was asked to stop; where one could not write its part of a checkpoint, all raise that."""
        mine = self.stop.requested or self.saver.failed
        [stop] = anywhere([mine])  # the hosts tell each other, and wait for no device
        if stop:
            self.saver.check()
        return stop

    def _exit(self) -> None:
        self.saver.wait()
        raise SystemExit(EXIT_CODE)
