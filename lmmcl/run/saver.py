"""Writes checkpoints while training goes on: a copy in host memory, a thread that writes it, one save at a time."""

from __future__ import annotations

import json
import shutil
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from threading import Event, Thread
from typing import Any

import torch.distributed as dist
from torch import Tensor

from lmmcl.agreement import agree, agreed
from lmmcl.errors import UserError
from lmmcl.run.checkpoint import (
    Checkpoint,
    TensorFile,
    as_json,
    naming_disk_errors,
    saved,
    write_atomically,
    write_manifest,
)
from lmmcl.run.host_memory import HostMemory
from lmmcl.weights import holds_first

KEPT = 2
"""Checkpoints in ``last/``."""
_LOOK_SECONDS = 0.01
_PATIENCE_SECONDS = 120.0
"""How long a file that another process wrote may take to be seen: network file systems remember what was not there."""
_GRACE_SECONDS = 10.0
"""The same after an error, when the other process may have none."""

_in_flight: set[_Writing] = set()


def end_saves(patience: float, dead: int) -> None:
    """Gives this process's part of a save in flight time to be written, before the process is ended in mid-run.

    Without a collective, from any thread. A save that lacks the part of the process that died can never be whole: it is
    left as it is, and a resume goes on from the one before it.

    Args:
        patience: seconds, at most.
        dead: rank of the process that died.
    """
    until = time.monotonic() + patience
    for writing in list(_in_flight):
        if writing.can_do_without(dead):
            writing.wait(until - time.monotonic())


class Saver:
    """Saves checkpoints; a save is whole when its manifest has its name, and until then its folder does not count.

    ``start`` copies what is to be written and returns; a thread writes, hashes and syncs. Every process writes the
    shards that it holds, and a small file that says what it wrote; the first one waits for these on its thread, and
    writes the manifest. So no thread takes part in a collective, and nothing is exchanged while training goes on.
    Where host memory has no room for the copy, ``start`` writes before it returns. Where a process dies after it
    wrote its part, the others write theirs before they end; else the save is lost, and the one before is whole.

    Args:
        nodes: hosts that take part.
    """

    def __init__(self, nodes: int = 1) -> None:
        self._memory = HostMemory(nodes)
        self._writing: _Writing | None = None
        self._told = False

    def start(self, folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Saves the tensors and the state as they are now; collective, and waits for the save before it.

        Args:
            folder: ``last/<position>``; one of that name is replaced.
            tensors: by key, sharded or not; of what several processes hold, the first of them writes it.
            state: plain Python that JSON can hold.
        """
        self.wait()
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        with agreed(), naming_disk_errors(folder):
            if rank == 0:
                if folder.exists():
                    shutil.rmtree(folder)
                folder.mkdir(parents=True)
        mine = {key: tensor for key, tensor in tensors.items() if holds_first(tensor)}
        file = TensorFile.of(mine)
        whole = sum(tensor.numel() * tensor.element_size() for tensor in mine.values())
        now = json.loads(as_json(state))  # a copy: what it was made of goes on changing
        fits = self._memory.holds(whole, file.size)
        self._writing = _Writing(folder, rank, world, self._memory.copy(file) if fits else file, now)
        self._writing.start()
        if not fits:
            self._tell(file.size)
            self._writing.mine.wait()

    @property
    def failed(self) -> bool:
        """Whether this process could not write its part; `wait` raises it on all of them."""
        return self._writing is not None and self._writing.error is not None

    def check(self) -> None:
        """Raises on every process what any of them failed with so far; collective."""
        try:
            agree(None if self._writing is None else self._writing.error)
        except Exception:
            if self._writing is not None:
                self._writing.abandon()
            self._writing = None
            raise

    def wait(self) -> None:
        """Returns when the save that was started is whole; collective.

        Raises:
            UserError: on every process, if any of them could not write its part.
        """
        writing = self._writing
        if writing is None:
            return
        writing.mine.wait()
        self.check()
        with agreed():  # all files are there, and the first process needs but see them
            writing.finish(_PATIENCE_SECONDS)
        self._writing = None

    def close(self) -> None:
        """Lets go of everything; this process's part of a save is written first, and the save if the others do theirs.

        Not collective: it comes after errors, too.
        """
        writing, self._writing = self._writing, None
        self._memory.free()
        if writing is None:
            return
        try:
            writing.finish(_GRACE_SECONDS)
        except Exception as error:  # noqa: BLE001 - another error is on its way, which this one must not hide
            warnings.warn(f"the last checkpoint was not written: {error}", stacklevel=2)

    def free(self) -> None:
        """Gives the memory of the copy back, once it is written; collective."""
        self.wait()
        self._memory.free()

    def _tell(self, size: int) -> None:
        if not self._told:
            warnings.warn(
                f"host memory has no room for {size / 1e9:.1f} GB: training stands still while checkpoints are "
                "written (model.checkpoint_every_n_steps says how often).",
                stacklevel=3,
            )
        self._told = True


class _Writing:
    """One save: this process's file and, on the first process, the manifest when all have written theirs."""

    def __init__(
        self, folder: Path, rank: int, world: int, file: TensorFile, state: Mapping[str, Any]
    ) -> None:
        self._thread = Thread(target=self._run, name="checkpoint")
        self._folder, self._rank, self._world = folder, rank, world
        self._file: TensorFile | None = file
        self._state = state
        self._abandoned = Event()
        self._all_there = False
        self.mine = Event()
        self.whole = False
        self.error: Exception | None = None
        self._entry: dict[str, Any] = {}

    def start(self) -> None:
        """Begins."""
        _in_flight.add(self)
        self._thread.start()

    def wait(self, patience: float) -> None:
        """Returns when this process has done all of its part, or so many seconds later."""
        self._thread.join(max(0.0, patience))

    def can_do_without(self, rank: int) -> bool:
        """Whether all that another process does for this save is done."""
        return self._all_there or (rank > 0 and (self._folder / f"{_name(rank)}.json").exists())

    def _run(self) -> None:
        try:
            self._write()
            self.mine.set()
            if self._rank == 0:
                self._complete()
        except Exception as error:  # noqa: BLE001 - raised on the main thread, see `Saver`
            self.error = error
        finally:
            self.mine.set()
            _in_flight.discard(self)

    def finish(self, patience: float) -> None:
        """Waits until this process has done all of its part.

        Args:
            patience: seconds that the first one waits for the others' files once its own is written.

        Raises:
            Exception: what it failed with.
        """
        self.mine.wait()
        self._thread.join(patience)
        self.abandon()
        self._thread.join()
        if self.error is not None:
            raise self.error
        if self._rank == 0 and not self.whole:
            raise UserError(
                f"run: {self._folder} lacks the files of other processes after {patience:.0f} s. All processes must "
                "write to one disk: choose another folder with --run."
            )

    def abandon(self) -> None:
        """Waits for the other processes no longer."""
        self._abandoned.set()

    def _write(self) -> None:
        assert self._file is not None
        with naming_disk_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)  # a network file system may not show it here yet
        self._entry = self._file.write(self._folder / f"{_name(self._rank)}.safetensors")
        self._file = None
        if self._world > 1:
            write_atomically(self._folder / f"{_name(self._rank)}.json", as_json(self._entry))

    def _complete(self) -> None:
        """On the first process: the manifest, and then the checkpoints that it makes superfluous."""
        entries = {_name(0): self._entry}
        for rank in range(1, self._world):
            path = self._folder / f"{_name(rank)}.json"
            while not path.exists():
                if self._abandoned.wait(_LOOK_SECONDS):
                    return
            entries[_name(rank)] = json.loads(path.read_bytes())
        self._all_there = True
        with naming_disk_errors(self._folder):
            for name in entries if self._world > 1 else ():
                (self._folder / f"{name}.json").unlink()
            files = {f"{name}.safetensors": entry for name, entry in entries.items()}
            write_manifest(self._folder, files, self._state)
            self.whole = True
            _tidy(self._folder)


def _name(rank: int) -> str:
    return f"process-{rank:05d}"


def _tidy(newest: Path) -> None:
    """Leaves the newest checkpoints that are whole up to this one.

    What was not finished goes, and what lies beyond: a run that fell back behind a damaged checkpoint writes it anew.
    """
    folders = saved(newest.parent)
    whole = [folder for folder in folders if folder.name <= newest.name and Checkpoint(folder).finished]
    for folder in folders:
        if folder not in whole[:KEPT]:
            shutil.rmtree(folder)
