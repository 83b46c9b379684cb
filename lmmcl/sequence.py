"""The sequence of tasks inside one `Trainer.fit`: where it stands, what is pending, and how it goes on after a kill."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import FrameType
from typing import Any, Literal

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from typing_extensions import override

from lmmcl.data.row import Row
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.evaluation.evaluator import EvaluationStopped
from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.predictions import PredictionStore, result_key
from lmmcl.evaluation.result import TaskResult
from lmmcl.log import RunLog
from lmmcl.loops import place_loops
from lmmcl.model import ContinualLMM
from lmmcl.resume import newest, restore, save
from lmmcl.run_folder import RunFolder
from lmmcl.strategy import wrap_again
from lmmcl.trainer_check import check_trainer, drop_default_checkpoint
from lmmcl.weights import checksums, fingerprint

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
        self._stop = False
        self.report_progress: Callable[[str, int, int], None] = lambda task, done, total: None
        self.report_stage: Callable[[Matrix, str, str], None] = lambda matrix, name, variant: None

    # Before the fit

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        module = _continual(pl_module)
        check_trainer(trainer, fitting=stage == "fit")
        drop_default_checkpoint(trainer)
        self.run = RunFolder(trainer.strategy.broadcast(module.run_path))
        self.run_log = RunLog(self.run.logs, trainer.is_global_zero)
        module.data.attach(module.processor, module.max_length)
        self.matrix = Matrix([t.name for t in module.data.tasks], [t.name for t in module.data.held_out])
        if stage != "fit":
            return
        self.run.check(module.decisive_config(), module.hparams["resume"])
        trainer.fit_loop.max_epochs = sum(task.epochs for task in module.data.tasks)
        trainer.reload_dataloaders_every_n_epochs = 1  # type: ignore[attr-defined]  # untyped in Lightning
        trainer.limit_val_batches = 0
        trainer.num_sanity_val_steps = 0

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = _continual(pl_module)
        self._catch_sigterm(trainer)
        checkpoint = newest(self.run, trainer) if module.hparams["resume"] else None
        if checkpoint is None:
            self.run.begin(module.decisive_config(), trainer.is_global_zero)
            self.sums = checksums(dict(module.model.named_parameters()))
        else:
            self.position = Position(**checkpoint.state["position"])
            self.sums = checkpoint.state["sums"]
            if self.run.matrix.exists():
                self.matrix = Matrix.load(self.run.matrix)
            if self.position.stage > 0 and self.position.phase != "done":
                self._prepare(trainer, module)
            restore(checkpoint, self.run, trainer, module)
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
        self._catch_sigterm(trainer)  # Lightning has put its own handler over ours
        self.run_log.start_task()

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module = _continual(pl_module)
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
        if self.position == Position():
            self._save(trainer, module)
        while self.position.phase not in ("train", "done"):
            if self._all_stop(trainer):
                self._exit()
            if self.position.phase == "end":
                task = module.data.tasks[self.position.stage - 1]
                for callback in module.stage_callbacks:
                    callback.on_task_end(trainer, module, task)
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
            for callback in module.stage_callbacks:
                results.update(callback.evaluate(trainer, module, stage))
        except EvaluationStopped:
            self._exit()
        if trainer.is_global_zero:
            store = PredictionStore(self.run.predictions)
            for result in results.values():
                store.keep(stage.predictions, result_key(stage.weights, result.task, {}), result)
        if results:
            self.matrix.put(stage.index, stage.folder, results.values(), variant=variant or "")
            if trainer.is_global_zero:
                self.matrix.save(self.run.path)
            self.report_stage(self.matrix, stage.folder, variant or "")
        return {name: result.mean for name, result in results.items()}

    def _stage(self, module: ContinualLMM, variant: str | None = None) -> Stage:
        index = self.position.stage
        task = module.data.tasks[index - 1] if index else None
        sums = checksums(dict(module.model.named_parameters()))
        return Stage(index, task, fingerprint(sums), variant)

    def _write(self, trainer: Trainer, module: ContinualLMM) -> None:
        """Proves the frozen tensors unchanged, writes the stage, and tells the callbacks its scores."""
        now = checksums(dict(module.model.named_parameters()))
        self._prove_frozen(module, now)
        self._prove_equal(now)
        stage = self._stage(module)
        names = sorted(
            {n for t in module.data.tasks[: stage.index] for n in module.recipe_of(t).resolve(module.anatomy)}
        )
        whole = {}
        for name, parameter in module.parameters_by_name(names).items():
            value = parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter.detach()
            if trainer.is_global_zero:
                whole[name] = value.detach().cpu()
        if trainer.is_global_zero:
            lineage = {
                "base": module.hparams["path"],
                "checksums": now,
                "index": stage.index,
                "recipe": None if stage.task is None else module.recipe_of(stage.task).spec,
                "tasks": [task.name for task in module.data.tasks[: stage.index]],
                "weights": stage.weights,
                "without_gradient": module.without_gradient,
            }
            self.run.write_stage(stage.folder, whole, lineage)
        _barrier()
        self.sums = now
        row = next((row for row in self.matrix.finals if row.index == stage.index), None)
        scores = {name: cell.score for name, cell in row.cells.items()} if row else {}
        for callback in module.stage_callbacks:
            callback.on_stage_end(trainer, module, stage.task, scores)

    def _prove_frozen(self, module: ContinualLMM, now: Mapping[str, str]) -> None:
        changed = [n for n, s in now.items() if n not in module.trained and self.sums[n] != s]
        if changed:
            raise RuntimeError(
                f"{len(changed)} tensors changed that the recipe froze, for example {changed[0]}. A callback or a "
                "merge wrote into them; the stage was not written."
            )

    def _prove_equal(self, now: Mapping[str, str]) -> None:
        if not dist.is_initialized():
            return
        everyone: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, fingerprint(now))
        if len(set(everyone)) > 1:
            raise RuntimeError(
                f"the processes hold different weights ({everyone}); the stage was not written."
            )

    def _next_task(self, trainer: Trainer, module: ContinualLMM) -> None:
        """Starts the next task, or ends the sequence."""
        if self.position.stage == len(module.data.tasks):
            self._enter(trainer, module, "done")
            return
        self.position = Position(self.position.stage + 1, "train", 0, self.position.global_step)
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
        self._rows = rows
        self._steps_per_epoch = data.steps_per_epoch(len(rows), index)
        module.steps_in_task = self._steps_per_epoch * task.epochs
        trainer.strategy.model = module  # an old DDP wrapper would count the dry backward as its own
        module.freeze_what_gets_no_gradient(data.collator.train(_probe(rows)).to(module.device))
        wrap_again(trainer)
        trainer.strategy.setup_optimizers(trainer)
        trainer.accumulate_grad_batches = data.accumulate(trainer.world_size, index)

    def _serve(self, module: ContinualLMM) -> None:
        """Tells the datamodule what to hand out next."""
        epoch, step = divmod(self.position.step, self._steps_per_epoch)
        module.data.begin(self.position.stage - 1, self._rows, epoch, step)

    def _enter(self, trainer: Trainer, module: ContinualLMM, phase: Phase) -> None:
        self.position = replace(self.position, phase=phase)
        self._save(trainer, module)

    def _save(self, trainer: Trainer, module: ContinualLMM) -> None:
        self.run_log.flush()
        save(self.run, trainer, module, asdict(self.position), self.position.name, self.sums)

    # Stopping

    def _catch_sigterm(self, trainer: Trainer) -> None:
        def stop(number: int, frame: FrameType | None) -> None:
            if not self._stop and isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher):
                trainer.strategy.launcher.kill(number)
            self._stop = True

        signal.signal(signal.SIGTERM, stop)

    def is_new_step(self, trainer: Trainer) -> bool:
        """In ``on_train_batch_end``: whether this batch completed an optimizer step."""
        return bool(trainer.global_step > self.position.global_step)

    @property
    def stop_requested(self) -> bool:
        """Whether this process was asked to stop."""
        return self._stop

    def _all_stop(self, trainer: Trainer) -> bool:
        return bool(trainer.strategy.reduce_boolean_decision(self._stop, all=False))

    def _exit(self) -> None:
        raise SystemExit(128 + signal.SIGTERM)


def _continual(module: LightningModule) -> ContinualLMM:
    if not isinstance(module, ContinualLMM):
        raise UserError(f"SequenceDriver drives a ContinualLMM, got {type(module).__name__}.")
    return module


def _probe(rows: Sequence[Row]) -> list[Row]:
    """A row with a picture and one without, where the task has them: together they reach all that can train."""
    probe = [rows[0]]
    other = next((row for row in rows if bool(row.images) != bool(rows[0].images)), None)
    return probe if other is None else [*probe, other]


def _barrier() -> None:
    if dist.is_initialized():
        dist.barrier()
