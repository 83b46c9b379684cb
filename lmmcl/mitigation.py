"""The one protocol for what looks at a sequence (`StageCallback`) and what fights forgetting (`Mitigation`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn
from typing_extensions import override

from lmmcl.data.batches.joined import JoinedRows
from lmmcl.data.row import Row

if TYPE_CHECKING:
    from lmmcl.adapters.fold import Fold
    from lmmcl.data.batches.batch import Batch
    from lmmcl.data.datamodule import TaskSequenceDataModule
    from lmmcl.data.task import Task
    from lmmcl.evaluation.evaluator import TaskResult
    from lmmcl.model import ContinualLMM
    from lmmcl.outputs.token_outputs import TokenOutputs
    from lmmcl.position import Stage
    from lmmcl.structure.widths import Widths


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """The callbacks of a trainer, an attribute that Lightning leaves untyped."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return callbacks


class StageCallback(Callback):
    """A Lightning callback that also hears about tasks and stages; probes and evaluation derive from it.

    A stage is what stands between two tasks: stage 0 is the base model, stage k the model after its k-th task. The
    engine calls these hooks on every process, in the order in which the callbacks are listed, and saves ``tensors``
    (sharded as the model is) and Lightning's ``state_dict`` (plain Python only) with every checkpoint. Each hook may
    run again after a kill, always from the state of the last checkpoint.

    Attributes:
        name: under which its terms are logged and its state is saved; two callbacks of one class need two names.
        tensors: its tensor state. Never restore or create it before ``on_task_start``: the engine does.
        may_change: attributes that a run may go on with otherwise; they change no result, or its rounding at most.
    """

    name: str
    tensors: dict[str, Tensor]
    may_change: ClassVar[frozenset[str]] = frozenset()
    _fitted: bool = False  # a fit has begun with this object, which then holds what it learned there

    def __init__(self, name: str | None = None) -> None:
        self.name = name or type(self).__name__
        self.tensors = {}

    @property
    @override
    def state_key(self) -> str:
        return self.name

    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        """Before the first step of a task, with the task's trained set and optimizer in place."""

    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        """After the last step of a task, before it is measured: here weights may change."""

    def evaluate(self, trainer: Trainer, module: ContinualLMM, stage: Stage) -> Mapping[str, TaskResult]:
        """Measures the model in memory; what it returns, by task name, becomes the stage's row of the matrix."""
        return {}

    def on_stage_end(
        self, trainer: Trainer, module: ContinualLMM, task: Task | None, scores: Mapping[str, float]
    ) -> None:
        """After a stage was measured and written; ``task`` is None and scores are the base model's at stage 0."""

    def copies(self) -> Sequence[Copy]:
        """The copies of what trains that it keeps in ``tensors``, for the plan's and preflight's memory and disk.

        One that says nothing is counted as keeping none.
        """
        return ()

    def needs_masters(self) -> str | None:
        """Why it cannot work where what trains is held in bf16 (``model.train_dtype``); None: it can."""
        if any(not copy.in_stage for copy in self.copies()):
            return "it keeps sums and averages of its own beside the weights, of which bf16 would swallow small terms."
        return None

    def state_bytes(self, widths: Widths, on_disk: bool = False) -> int:
        """Bytes of what else it keeps in ``tensors``, at most: whole on every process and in every checkpoint.

        Args:
            widths: of the model.
            on_disk: leave out what equals a stage's tensors, to which a checkpoint refers.
        """
        return 0


@dataclass(frozen=True)
class Copy:
    """One fp32 copy of trained tensors that a callback keeps in ``tensors``.

    Args:
        of: what the present ``task`` trains, all that was trained ``so far``, or what ``each task`` trained, apart; or
            so many bytes of something else.
        in_stage: equal to a stage's tensors: a checkpoint refers to the stage, and the copy needs no disk.
        shared: ``module.anchor()``, one copy for all mitigations that keep it.
    """

    of: Literal["task", "so far", "each task"] | int
    in_stage: bool = False
    shared: bool = False


ANCHOR = Copy("task", in_stage=True, shared=True)
"""The weights as the present task began, from ``module.anchor()`` in ``on_task_start``."""


def copied_elements(
    callbacks: Sequence[StageCallback],
    numel: Mapping[str, int],
    trained: Sequence[Mapping[str, str]],
    on_disk: bool = False,
) -> int:
    """Elements of all copies that callbacks keep, at most: after the last task, of the task that trains most.

    Args:
        callbacks: of the run.
        numel: elements of every parameter.
        trained: the parameters that each task trains, in order.
        on_disk: only the copies that a checkpoint holds in full.
    """
    of_tasks = [sum(numel[name] for name in names) for names in trained]
    sizes = {
        "task": max(of_tasks, default=0),
        "so far": sum(numel[name] for name in {name for names in trained for name in names}),
        "each task": sum(of_tasks),
    }
    copies = [copy for callback in callbacks for copy in callback.copies()]
    counted = [*(copy for copy in copies if not copy.shared), *{copy for copy in copies if copy.shared}]
    counted = [copy for copy in counted if not (on_disk and copy.in_stage)]
    return sum(copy.of // 4 if isinstance(copy.of, int) else sizes[copy.of] for copy in counted)


class Mitigation(StageCallback):
    """Something that acts against forgetting; mitigations act in the order in which they are listed.

    Override what the method needs. Every term is logged under ``name``.

    Attributes:
        positions: where ``token_loss`` needs the student's outputs: ``answer`` tokens, or ``all``, which it then finds
            in ``outputs.everywhere``.
    """

    positions: Literal["answer", "all"] = "answer"

    def conflict(self, other: Mitigation) -> str | None:
        """Why this one and another cannot work together in whatever order, and the way out; None: they can.

        The engine asks both of every two before anything expensive starts. Refuse what cannot be right or makes one
        of them pointless, never what is merely unusual: methods stack.
        """
        return None

    def writes_frozen(self) -> str | None:
        """Why it cannot work where frozen weights are held in 8 or 4 bits (``model.frozen_bits``); None: it can."""
        return None

    def must_precede(self, other: Mitigation) -> str | None:
        """Why this one must be listed before another; None: it need not."""
        return None

    def must_follow(self, other: Mitigation) -> str | None:
        """Why this one must be listed after another; None: it need not."""
        return None

    def moves_weights(self) -> bool:
        """Whether, with its arguments, it changes weights in ``on_task_end``, where the order of such ones counts."""
        return False

    def adapt(self, module: ContinualLMM, model: nn.Module) -> None:
        """Changes the structure of the model as it was loaded, once, before anything is sharded: adapters.

        All parameters of the whole sequence are made here, the same on every process and after every resume; what a
        task trains of them is said by ``trains``. ``module.anatomy`` knows the model as it was, and keeps doing so. A
        layer that is wrapped goes into the wrapper's attribute ``base_layer``, so that its parameters keep their names.

        Args:
            module: whose ``data`` names the tasks.
            model: on the CPU, or without values on the meta device.
        """

    def trains(self, module: ContinualLMM, task: Task, trained: Mapping[str, str]) -> Mapping[str, str]:
        """What a task trains, parameter to group, given what its recipe chose; a question without side effects."""
        return trained

    def arrange(self, module: ContinualLMM, stage: int, ended: bool) -> None:
        """Brings what ``adapt`` made into the state that a stage needs; does nothing where it is so already.

        The engine calls it when a task begins, before its first forward, when it ended and all of ``on_task_end`` is
        done, and on a resume, with ``tensors`` and all trained parameters as they were saved. Weights that follow from
        trained ones may be written here: no checkpoint holds them.

        Args:
            module: with its model built.
            stage: 1 for the first task; 0 for the base model.
            ended: the task is trained; else it is about to be, or is.
        """

    def folds(self, module: ContinualLMM, task: Task) -> Sequence[Fold]:
        """How what a task trained becomes plain weights, for exports and whoever reads a stage without adapters."""
        return ()

    def not_plain(self) -> str | None:
        """Why no plain weights can do what its adapters do, for the error of an export; None: ``folds`` say how."""
        return None

    def select(
        self, trainer: Trainer, module: ContinualLMM, task: Task, rows: Sequence[Row]
    ) -> Sequence[Row]:
        """The rows to train a task on: replay, mixing, scoring.

        Called before the task starts and again on a resume, where it must return the same rows: keep what it
        depends on in ``tensors`` or ``state_dict``. Rows may carry ``extras`` into ``Batch.extras``.
        """
        return rows

    def foresee_rows(self, data: TaskSequenceDataModule, task: Task, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows that ``select`` will give, asked before there is a run: for its steps, time and memory.

        A question without side effects; one that says nothing is taken to leave the rows as they are.
        """
        return rows

    def foresee_joined(self, data: TaskSequenceDataModule, task: Task) -> Sequence[JoinedRows]:
        """The sets that ``join`` will give, asked before there is a run; a question without side effects."""
        return ()

    def join(self, trainer: Trainer, module: ContinualLMM, task: Task) -> Sequence[JoinedRows]:
        """Sets of rows of which some join every optimizer step of a task, beside the task's own: replay.

        Called after ``select`` and again on a resume, where it must return the same. The steps of a task stay as
        many; each has more rows. Rows of a set that is not ``taught`` are seen by the ``token_loss`` of this
        mitigation alone, and what it returns for them is divided by the set's own answer tokens.
        """
        return ()

    def before_forward(self, module: ContinualLMM, batch: Batch) -> None:
        """Before the student's forward: a teacher's turn, ``module.token_outputs(batch, weights=...)``."""

    def token_loss(self, module: ContinualLMM, batch: Batch, outputs: TokenOutputs) -> Tensor | None:
        """An extra loss per answer token, (tokens,); summed and divided as the main loss is (but see ``join``)."""
        return None

    def weight_penalty(self, name: str, shard: Tensor) -> Tensor | None:
        """A scalar penalty on the local part of one trained parameter, once per optimizer step, before clipping.

        Args:
            name: the parameter's name; ``self.tensors`` may hold what belongs to it (use ``lmmcl.weights.local``).
            shard: its values on this process, with a gradient.
        """
        return None
