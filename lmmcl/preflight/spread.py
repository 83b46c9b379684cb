"""Spreads work over the cores: the same results in the same order with any number of processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

Job = TypeVar("Job")
Result = TypeVar("Result")


class _Jobs(Dataset[Result], Generic[Job, Result]):
    """The results of jobs, each made when it is asked for."""

    def __init__(self, jobs: Sequence[Job], run: Callable[[Job], Result]) -> None:
        self._jobs = jobs
        self._run = run

    def __len__(self) -> int:
        return len(self._jobs)

    @override
    def __getitem__(self, index: int) -> Result:
        return self._run(self._jobs[index])


def spread(
    jobs: Sequence[Job], run: Callable[[Job], Result], processes: int | None = None
) -> Iterator[Result]:
    """Runs jobs in worker processes.

    Args:
        jobs: what is to be done.
        run: does one job; returns what can be pickled and raises nothing.
        processes: 0 works in this process; None: one a core.

    Yields:
        The results in the order of the jobs.
    """
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(workers if processes is None else processes, len(jobs))
    if count < 2:
        yield from map(run, jobs)
        return
    # A tokenizer that has run threads before a fork warns, and goes single anyway.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    yield from DataLoader(
        _Jobs(jobs, run),
        batch_size=None,
        num_workers=count,
        collate_fn=lambda result: result,
        generator=torch.Generator().manual_seed(0),
    )
