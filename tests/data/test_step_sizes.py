"""Forwards of a step and steps of an epoch, from the sizes that the YAML gives."""

import pytest

from lmmcl.data.step_sizes import StepSizes
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from tests.toy import toy_task


def task(batch_size: int | None = None) -> Task:
    return toy_task("a", 0, batch_size=batch_size)


@pytest.mark.parametrize(
    ("world", "micro", "expected"), [(1, None, 1), (4, None, 1), (1, 8, 4), (2, 8, 2), (3, 8, 2), (1, 5, 7)]
)
def test_forwards_per_step_follow_from_batch_micro_batch_and_processes(
    world: int, micro: int | None, expected: int
) -> None:
    assert StepSizes(micro_batch_size=micro).forwards(task(), world) == expected


@pytest.mark.parametrize(("world", "expected"), [(1, 32), (2, 16), (3, 11)])
def test_with_a_limit_of_tokens_every_sample_may_need_a_forward(world: int, expected: int) -> None:
    assert StepSizes(micro_batch_tokens=100).forwards(task(), world) == expected


def test_more_processes_than_samples_in_a_step_are_refused() -> None:
    with pytest.raises(UserError, match=r"data.batch_size .*\(4\), got 2 for a"):
        StepSizes().forwards(task(batch_size=2), 4)


def test_steps_of_an_epoch_count_the_short_one_unless_it_is_dropped() -> None:
    assert StepSizes(batch_size=8).per_epoch(task(), 30) == 4
    assert StepSizes(batch_size=8, drop_last=True).per_epoch(task(), 30) == 3
    assert StepSizes(batch_size=8).per_epoch(task(batch_size=5), 30) == 6
    with pytest.raises(UserError, match=r"data\.drop_last: false"):
        StepSizes(drop_last=True).per_epoch(task(), 30)
