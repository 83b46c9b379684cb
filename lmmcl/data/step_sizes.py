"""How many rows an optimizer step takes, in how many forwards, and how many steps an epoch has."""

from collections.abc import Sequence
from dataclasses import dataclass

from lmmcl.data.batches.joined import JoinedRows
from lmmcl.data.task import Task
from lmmcl.errors import UserError


@dataclass(frozen=True)
class StepSizes:
    """Sizes of steps and forwards, as `TaskSequenceDataModule` takes them.

    Args:
        batch_size: samples per optimizer step over all processes, from 1; a task may have its own.
        micro_batch_size: samples per forward on one process, from 1 to the batch size.
        micro_batch_tokens: instead, tokens per forward on one process, from 1.
        drop_last: leave out the short last step of an epoch.

    Raises:
        UserError: a number is out of its range, or both ways to say the size of a forward are taken.
    """

    batch_size: int = 32
    micro_batch_size: int | None = None
    micro_batch_tokens: int | None = None
    drop_last: bool = False

    def __post_init__(self) -> None:
        for key in ("batch_size", "micro_batch_size", "micro_batch_tokens"):
            check_least(key, getattr(self, key), 1)
        if self.micro_batch_size is not None and self.micro_batch_tokens is not None:
            raise UserError(
                "data.micro_batch_size and data.micro_batch_tokens must not both be set, got "
                f"{self.micro_batch_size} and {self.micro_batch_tokens}; remove one of them."
            )

    def check(self, tasks: Sequence[Task]) -> None:
        """Raises UserError where a forward would be larger than the step of a task."""
        for task in tasks:
            if self.micro_batch_size is not None and self.micro_batch_size > self.of(task):
                raise UserError(
                    "data.micro_batch_size must be at most the batch size of every task, got "
                    f"{self.micro_batch_size}, and {task.name} has {self.of(task)}; lower it or leave it out."
                )

    def of(self, task: Task) -> int:
        """Samples per optimizer step of a task, over all processes."""
        return task.batch_size or self.batch_size

    def forwards(self, task: Task, world: int, joined: Sequence[JoinedRows] = ()) -> int:
        """Forwards per optimizer step on each process; with a limit of tokens the most there can be.

        Args:
            task: that is trained.
            world: number of processes, from 1.
            joined: the sets whose rows join every step.

        Raises:
            UserError: there are more processes than samples in a step.
        """
        size = self.of(task)
        if world > size:
            raise UserError(
                f"data.batch_size must be at least the number of processes ({world}), got {size} for "
                f"{task.name}; raise it or use fewer devices."
            )
        samples = 1 if self.micro_batch_tokens is not None else self.micro_batch_size
        return 1 if samples is None else -(-(size + sum(one.per_step for one in joined)) // (world * samples))

    def per_epoch(self, task: Task, rows: int) -> int:
        """Optimizer steps in an epoch over so many rows.

        Raises:
            UserError: there is not one step: no rows, or ``drop_last`` leaves the only one out.
        """
        size = self.of(task)
        steps = rows // size if self.drop_last else -(-rows // size)
        if steps == 0:
            raise UserError(
                f"data.tasks: {task.name} must have rows for at least one step of {size}, got {rows} rows "
                f"with drop_last {self.drop_last}; lower data.batch_size or set data.drop_last: false."
            )
        return steps


def check_least(key: str, value: int | None, least: int) -> None:
    """Raises UserError where a number under ``data`` is below its least; None stands for its default."""
    if value is not None and value < least:
        raise UserError(f"data.{key} must be a whole number from {least}, got {value}.")
