"""The one protocol for what looks at a sequence (`StageCallback`) and what fights forgetting (`Mitigation`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lightning.pytorch import Callback, Trainer
from torch import Tensor
from typing_extensions import override

from lmmcl.data.row import Row

if TYPE_CHECKING:
    from lmmcl.data.batch import Batch
    from lmmcl.data.task import Task
    from lmmcl.evaluation.evaluator import TaskResult
    from lmmcl.model import ContinualLMM
    from lmmcl.position import Stage
    from lmmcl.token_outputs import TokenOutputs


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
    """

    name: str
    tensors: dict[str, Tensor]

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


@dataclass(frozen=True)
class Copy:
    """One fp32 copy of trained tensors that a mitigation keeps in ``tensors``.

    Args:
        of: what the present ``task`` trains, all that was trained ``so far``, or what ``each task`` trained, apart.
        in_stage: equal to a stage's tensors: a checkpoint refers to the stage, and the copy needs no disk.
        shared: ``module.anchor()``, one copy for all mitigations that keep it.
    """

    of: Literal["task", "so far", "each task"]
    in_stage: bool = False
    shared: bool = False


ANCHOR = Copy("task", in_stage=True, shared=True)
"""The weights as the present task began, from ``module.anchor()`` in ``on_task_start``."""


def copied_elements(
    mitigations: Sequence[Mitigation],
    numel: Mapping[str, int],
    trained: Sequence[Mapping[str, str]],
    on_disk: bool = False,
) -> int:
    """Elements of all copies that mitigations keep, at most: after the last task, of the task that trains most.

    Args:
        mitigations: of the run.
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
    copies = [copy for mitigation in mitigations for copy in mitigation.copies()]
    counted = [*(copy for copy in copies if not copy.shared), *{copy for copy in copies if copy.shared}]
    return sum(sizes[copy.of] for copy in counted if not (on_disk and copy.in_stage))


class Mitigation(StageCallback):
    """Something that acts against forgetting; mitigations act in the order in which they are listed.

    Override what the method needs. Every term is logged under ``name``.
    """

    def copies(self) -> Sequence[Copy]:
        """The copies of what trains that it keeps in ``tensors``, for the plan's and preflight's memory and disk.

        One that says nothing is counted as keeping none.
        """
        return ()

    def select(
        self, trainer: Trainer, module: ContinualLMM, task: Task, rows: Sequence[Row]
    ) -> Sequence[Row]:
        """The rows to train a task on: replay, mixing, scoring.

        Called before the task starts and again on a resume, where it must return the same rows: keep what it
        depends on in ``tensors`` or ``state_dict``. Rows may carry ``extras`` into ``Batch.extras``.
        """
        return rows

    def before_forward(self, module: ContinualLMM, batch: Batch) -> None:
        """Before the student's forward: a teacher's turn, ``module.token_outputs(batch, weights=...)``."""

    def token_loss(self, module: ContinualLMM, batch: Batch, outputs: TokenOutputs) -> Tensor | None:
        """An extra loss per answer token, (tokens,); summed and divided as the main loss is."""
        return None

    def weight_penalty(self, name: str, shard: Tensor) -> Tensor | None:
        """A scalar penalty on the local part of one trained parameter, once per optimizer step, before clipping.

        Args:
            name: the parameter's name; ``self.tensors`` may hold what belongs to it (use ``lmmcl.weights.local``).
            shard: its values on this process, with a gradient.
        """
        return None
