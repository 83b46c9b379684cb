"""Hands out one epoch of a task in whole accumulation windows, equal on any number of processes."""

import logging
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from lmmcl.agreement import most
from lmmcl.data.batches.batch import Batch
from lmmcl.data.batches.collate import Collator, answer_tokens
from lmmcl.data.batches.joined import JoinedRows
from lmmcl.data.batches.micro_batches import PADDED, Layout, MicroBatches
from lmmcl.data.batches.order import deal
from lmmcl.data.row import Row
from lmmcl.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepBatches:
    """This process's part of one optimizer step.

    Args:
        batches: its micro-batches.
        dropped: ids of rows that were left out of them as too long.
        beyond: ids of rows that are longer than ``data.micro_batch_tokens``.
        filler: stands in where other processes have more micro-batches; None: all have as many.
    """

    batches: Sequence[Batch]
    dropped: Sequence[str]
    beyond: Sequence[str] = ()
    filler: Batch | None = None

    def pin_memory(self) -> Self:
        """The same window in page-locked memory; torch's loader calls it in its thread."""
        filler = None if self.filler is None else self.filler.pin_memory()
        return replace(self, batches=[batch.pin_memory() for batch in self.batches], filler=filler)


class WindowDataset(Dataset[StepBatches | UserError]):
    """One item per optimizer step, so that all its micro-batches know its tokens when they leave a worker.

    Args:
        rows: the rows of the epoch.
        windows: row positions of every step, the same list on every process.
        collator: makes the batches.
        rank: this process, from 0.
        world: number of processes.
        accumulate: micro-batches of a window on one process, from 1; with a limit of tokens at most so many.
        joined: the sets whose rows join the task's; then ``rows`` are `RowsOfStep`.
        layout: how samples are laid into micro-batches.
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
        layout: Layout = PADDED,
    ) -> None:
        self.rows = rows
        self.windows = windows
        self.micro_batches = MicroBatches(collator, layout)
        self.rank = rank
        self.world = world
        self.accumulate = accumulate
        self.joined = joined

    def __len__(self) -> int:
        return len(self.windows)

    @override
    def __getitem__(self, step: int) -> StepBatches | UserError:
        """The window of a step, or the mistake in it: raised in a worker, it would arrive as a traceback."""
        try:
            return self._window(step)
        except UserError as error:
            return error

    def _window(self, step: int) -> StepBatches:
        window = self.windows[step]
        made = (
            self._by_number(window) if self.micro_batches.layout.tokens is None else self._by_tokens(window)
        )
        tokens = sum(answer_tokens(batch) for batch in made.batches)
        of_sets = [
            sum(answer_tokens(batch, index) for batch in made.batches)
            for index, _ in enumerate(self.joined, 1)
        ]
        apart = sum(count for count, one in zip(of_sets, self.joined, strict=True) if not one.taught)

        def told(batch: Batch) -> Batch:
            return replace(batch, window_tokens=tokens - apart, joined_tokens=of_sets)

        filler = None if made.filler is None else told(made.filler)
        return replace(made, batches=[told(batch) for batch in made.batches], filler=filler)

    def _by_number(self, window: Sequence[int]) -> StepBatches:
        """As many micro-batches as are accumulated, of nearly as many samples each."""
        batches: list[Batch] = []
        dropped: list[str] = []
        for positions in deal(window, self.rank, self.world, self.accumulate):
            rows = [self.rows[position] for position in positions]
            batch = self.micro_batches.one(rows) if rows else self._filler(window)
            dropped += _missing(rows, [batch])
            batches.append(batch)
        return StepBatches(batches, dropped)

    def _by_tokens(self, window: Sequence[int]) -> StepBatches:
        """As few micro-batches as the limit of tokens allows; neighbours in length go to different processes."""
        rows = [self.rows[position] for position in window[self.rank :: self.world]]
        batches, beyond = self.micro_batches.within_limit(rows)
        return StepBatches(batches, _missing(rows, batches), beyond, self._filler(window))

    def _filler(self, window: Sequence[int]) -> Batch:
        return self.micro_batches.filler(self.rows[window[0]])


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
        beyond: ids of rows that stood alone in a micro-batch, but for a filler, that was still larger than its limit of
            tokens, likewise.
    """

    def __init__(self, data: WindowDataset, start: int = 0, num_workers: int = 0) -> None:
        self.data = data
        self.start = start
        self.num_workers = num_workers
        self.dropped: list[str] = []
        self.beyond: list[str] = []

    def __len__(self) -> int:
        """Micro-batches of the whole epoch on this process, those before ``start`` included."""
        return len(self.data) * self.data.accumulate

    def __iter__(self) -> Iterator[Batch]:
        self.dropped, self.beyond = [], []
        for item in self._windows():
            if isinstance(item, UserError):
                raise item
            self.dropped += item.dropped
            self.beyond += item.beyond
            yield from self._even(item)
        self._tell("data.on_too_long: drop left out %d rows of this process, the first: %s", self.dropped)
        self._tell(
            "data.micro_batch_tokens: %d rows of this process are longer (a text: with the picture added to it) and "
            "had a micro-batch each, the first: %s",
            self.beyond,
        )

    def _even(self, window: StepBatches) -> Iterator[Batch]:
        """As many micro-batches on every process, and the last of a window, which synchronises, is never idle.

        Lightning accumulates a constant number. Places that no process needs come first and cost nothing.
        """
        if window.filler is not None:
            needed = most(len(window.batches))
            idle = replace(window.filler, idle=True)
            yield from [idle] * (self.data.accumulate - needed)
            yield from [window.filler] * (needed - len(window.batches))
        yield from window.batches

    @staticmethod
    def _tell(text: str, rows: Sequence[str]) -> None:
        if rows:
            log.warning(text, len(rows), ", ".join(rows[:5]))

    def _windows(self) -> Iterator[StepBatches | UserError]:
        steps = range(self.start, len(self.data))
        pin = torch.cuda.is_available()
        if self.num_workers == 0:
            for step in steps:
                item = self.data[step]
                yield item.pin_memory() if pin and isinstance(item, StepBatches) else item
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
            worker_init_fn=_leave_signals_to_the_parent,
        )

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the engine says where to start. Lightning takes a loader that has this as resumable."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Nothing to restore."""


def _leave_signals_to_the_parent(worker: int) -> None:
    """A scheduler's signals reach the whole process group; a worker that died of one would end the run unsaved."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def _missing(rows: Sequence[Row], batches: Sequence[Batch]) -> list[str]:
    """Ids of the rows that no batch has."""
    kept = {name for batch in batches for name in batch.ids}
    return [row.id for row in rows if row.id not in kept]
