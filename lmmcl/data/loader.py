"""Hands out one epoch of a task in whole accumulation windows, equal on any number of processes."""

import logging
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from lmmcl.data.batch import Batch
from lmmcl.data.collate import Collator, answer_tokens
from lmmcl.data.joined import JoinedRows
from lmmcl.data.order import deal
from lmmcl.data.row import Row
from lmmcl.errors import UserError

log = logging.getLogger(__name__)

Window = tuple[list[Batch], list[str]]
"""This process's micro-batches of one optimizer step, and the ids of rows that were dropped from them."""


class WindowDataset(Dataset[Window | UserError]):
    """One item per optimizer step, so that all its micro-batches know its tokens when they leave a worker.

    Args:
        rows: the rows of the epoch.
        windows: row positions of every step, the same list on every process.
        collator: makes the batches.
        rank: this process, from 0.
        world: number of processes.
        accumulate: micro-batches of a window on one process, from 1.
        joined: the sets whose rows join the task's; then ``rows`` are `RowsOfStep`.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        windows: Sequence[Sequence[int]],
        collator: Collator,
        rank: int,
        world: int,
        accumulate: int,
        joined: Sequence[JoinedRows] = (),
    ) -> None:
        self.rows = rows
        self.windows = windows
        self.collator = collator
        self.rank = rank
        self.world = world
        self.accumulate = accumulate
        self.joined = joined

    def __len__(self) -> int:
        return len(self.windows)

    @override
    def __getitem__(self, step: int) -> Window | UserError:
        """The window of a step, or the mistake in it: raised in a worker, it would arrive as a traceback."""
        try:
            return self._window(step)
        except UserError as error:
            return error

    def _window(self, step: int) -> Window:
        window = self.windows[step]
        batches: list[Batch] = []
        dropped: list[str] = []
        for positions in deal(window, self.rank, self.world, self.accumulate):
            rows = [self.rows[position] for position in positions]
            batch = self.collator.train(rows) if rows else self.collator.filler(self.rows[window[0]])
            kept = set(batch.ids)
            dropped += [row.id for row in rows if row.id not in kept]
            batches.append(batch)
        tokens = sum(answer_tokens(batch) for batch in batches)
        if not self.joined:
            return [replace(batch, window_tokens=tokens) for batch in batches], dropped
        of_sets = [
            sum(answer_tokens(batch, index) for batch in batches) for index, _ in enumerate(self.joined, 1)
        ]
        apart = sum(count for count, one in zip(of_sets, self.joined, strict=True) if not one.taught)
        return [replace(b, window_tokens=tokens - apart, joined_tokens=of_sets) for b in batches], dropped


class TaskLoader:
    """The micro-batches of one process in one epoch.

    Every process gets the same number of micro-batches in every window. Where rows run out (a short last
    window), an unlabelled filler stands in. Nothing is kept between iterations: the loader starts where it is
    told to, so that batches fetched ahead and never trained on are not lost by a resume.

    Args:
        data: the windows.
        start: the first optimizer step to serve, from 0.
        num_workers: processes that prepare windows; 0 prepares them here.

    Attributes:
        dropped: ids of rows left out because they did not fit, on this process, in what was served.
    """

    def __init__(self, data: WindowDataset, start: int = 0, num_workers: int = 0) -> None:
        self.data = data
        self.start = start
        self.num_workers = num_workers
        self.dropped: list[str] = []

    def __len__(self) -> int:
        """Micro-batches of the whole epoch on this process, those before ``start`` included."""
        return len(self.data) * self.data.accumulate

    def __iter__(self) -> Iterator[Batch]:
        self.dropped = []
        for item in self._windows():
            if isinstance(item, UserError):
                raise item
            batches, dropped = item
            self.dropped += dropped
            yield from batches
        if self.dropped:
            log.warning(
                "data.on_too_long: drop left out %d rows of this process, the first: %s",
                len(self.dropped),
                ", ".join(self.dropped[:5]),
            )

    def _windows(self) -> Iterator[Window | UserError]:
        steps = range(self.start, len(self.data))
        pin = torch.cuda.is_available()
        if self.num_workers == 0:
            for step in steps:
                item = self.data[step]
                if pin and not isinstance(item, UserError):
                    item = [batch.pin_memory() for batch in item[0]], item[1]
                yield item
            return
        # The workers are the parallelism; a tokenizer that has run threads before a fork warns and goes
        # single anyway.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        # A generator of its own: the default one would take a number from the global stream at every start,
        # and a resumed run would draw other numbers than one that never stopped.
        yield from DataLoader(
            self.data,
            batch_size=None,
            sampler=steps,
            num_workers=self.num_workers,
            pin_memory=pin,
            generator=torch.Generator().manual_seed(0),
            worker_init_fn=_leave_sigterm_to_the_parent,
        )

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the engine says where to start. Lightning takes a loader that has this as resumable."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Nothing to restore."""


def _leave_sigterm_to_the_parent(worker: int) -> None:
    """A scheduler's SIGTERM reaches the whole process group; a worker that died of it would end the run unsaved."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
