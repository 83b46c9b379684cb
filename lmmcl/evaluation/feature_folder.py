"""A folder of kept features: tensors under a key, mapped into memory, bounded in size, and never half written."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import shutil
import time
import warnings
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

log = logging.getLogger(__name__)

_FORGOTTEN = 3600
"""Seconds after which a file that is still being written was left behind by a kill."""
_ROW = ".row.safetensors"
_SCANNED = 50
"""How many times as long as a look at a large folder takes it is trusted: looks cost two percent at most."""
_LONG_AGO = 30 * 24 * 3600
"""Seconds after which an entry of a measurement makes room for training rows, too: its tower is of the past."""
_FREE = 10 << 30
"""Bytes of a disk that are left to checkpoints, or a tenth of a small disk."""


class FeatureFolder:
    """Entries of one folder, which several processes and runs may share.

    An entry is one safetensors file, sealed with a checksum that is compared when this process first reads it. Where a
    new one does not fit, those make room that this process has not used since it began (or since `release`), the
    longest unused first. What it uses itself it never throws out: where that alone fills the folder, the first entries
    stay, which serves better than the last would, as every measurement asks for all in one order. A full disk
    costs features, never the run.

    Entries of training rows take what room there is: others throw them out first, and they throw out none but their
    like and what no run has used for a month.

    Args:
        path: of the folder.
        most: bytes of all its entries, of training rows and of others.
        of_rows: its entries are of training rows.
    """

    def __init__(self, path: Path, most: int, of_rows: bool = False) -> None:
        self.path = path
        self._most = most
        self._suffix = _ROW if of_rows else ".safetensors"
        self._of_rows = of_rows
        self._began = time.time_ns()
        self._whole: dict[str, tuple[int, int]] = {}
        self._full = False
        self._room, self._looked = 0, -math.inf

    def release(self) -> None:
        """Lets go of what was used so far: it may make room from now on."""
        self._began = time.time_ns()

    def find(self, key: str) -> tuple[dict[str, Tensor], str] | None:
        """The tensors of an entry, read where they are used, and its text; None where there is none.

        A damaged entry is removed with a warning that names it.
        """
        file = self._file(key)
        try:
            found = os.stat(file)
            with safe_open(file, "pt") as opened:
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}
                about = opened.metadata() or {}
            text = about["text"]
            if self._whole.get(key) != (found.st_ino, found.st_size):
                if about["seal"] != _seal(tensors, text):
                    raise ValueError("its checksum differs")
                self._whole[key] = found.st_ino, found.st_size
            _stamp(file)
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
            warnings.warn(f"{file} is damaged ({error}); its features are computed again.", stacklevel=2)
            self._remove(file)
            return None
        return tensors, text

    def keep(self, key: str, tensors: Mapping[str, Tensor], text: str) -> None:
        """Writes an entry, unless there is no room for it.

        Args:
            key: hexadecimal.
            tensors: contiguous, on the CPU.
            text: what belongs to them.
        """
        file = self._file(key)
        waiting = file.with_name(f"{file.name}.{os.getpid()}.part")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not self._make_room(sum(tensor.nbytes for tensor in tensors.values())):
                return
            save_file(dict(tensors), waiting, {"text": text, "seal": _seal(tensors, text)})
            _stamp(waiting)
            os.replace(waiting, file)
        except (OSError, SafetensorError) as error:
            self._remove(waiting)
            self._stop(f"{file} cannot be written ({error})")

    def _file(self, key: str) -> Path:
        return self.path / f"{key}{self._suffix}"

    def _make_room(self, size: int) -> bool:
        """Whether an entry fits, from now on counted as held.

        A large folder is looked at now and then only, and its room is shared among the processes of a run. What the
        disk has is asked at every entry: others write there, too.
        """
        began = time.monotonic()
        room = min(self._room, self._free())
        if began > self._looked or (size > room and not self._full):
            room = self._look(size)
            took = time.monotonic() - began
            self._looked = began + (_SCANNED * took if took > 0.01 else 0)
            processes = dist.get_world_size() if dist.is_initialized() else 1
            self._room = room if room < size else max(size, room // processes)
        if size > room:
            self._stop(f"{self.path} has no room for more features (data.cache_features_gb, or the disk)")
            return False
        self._room -= size
        return True

    def _look(self, size: int) -> int:
        """Bytes of new entries for which there is room, so many if that can be made."""
        entries = sorted(self._entries(), key=lambda entry: entry[1])
        room = min(self._most - sum(entry[2] for entry in entries), self._free())
        if room >= size:
            return room
        rows = [entry for entry in entries if entry[0].name.endswith(_ROW)]
        others = [entry for entry in entries if not entry[0].name.endswith(_ROW) and entry[1] < self._began]
        if self._of_rows:
            long_ago = time.time_ns() - _LONG_AGO * 10**9
            rows = [entry for entry in rows if entry[1] < self._began]
            leaving = [*(entry for entry in others if entry[1] < long_ago), *rows]
        else:
            leaving = [*rows, *others]
        if room + sum(entry[2] for entry in leaving) < size:  # they would leave for nothing
            return room
        # Rows are many: a look for each would take long.
        for file, _, held in leaving:
            if room >= size + self._most // 100:
                break
            self._remove(file)
            room += held
        return room

    def _free(self) -> int:
        """Bytes of the disk that features may still take."""
        disk = shutil.disk_usage(self.path)
        return disk.free - min(_FREE, disk.total // 10)

    def _entries(self) -> Iterator[tuple[Path, int, int]]:
        """File, time of its last use in nanoseconds and bytes of all entries; what a kill left behind is removed."""
        with os.scandir(self.path) as entries:
            for entry in entries:
                try:
                    about = entry.stat()
                except FileNotFoundError:  # another process has removed it
                    continue
                if entry.name.endswith(".safetensors"):
                    yield Path(entry.path), about.st_mtime_ns, about.st_size
                elif entry.name.endswith(".part") and time.time() - about.st_mtime > _FORGOTTEN:
                    self._remove(Path(entry.path))

    def _remove(self, file: Path) -> None:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s cannot be removed (%s).", file, error)

    def _stop(self, why: str) -> None:
        if not self._full:
            log.warning("%s: what does not fit is computed again.", why)
        self._full = True


def _stamp(file: Path) -> None:
    """Marks a file as used now, by this process's clock: that of a file system lags behind it by milliseconds."""
    now = time.time_ns()
    try:
        os.utime(file, ns=(now, now))
    except OSError:  # another user's entry; whose group may write it may say that it is now
        with contextlib.suppress(OSError):  # a disk that takes nothing has good entries, too
            os.utime(file)


def _seal(tensors: Mapping[str, Tensor], text: str) -> str:
    """A checksum of names, types, shapes and values."""
    value = zlib.crc32(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        value = zlib.crc32(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode(), value)
        value = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, value)
    return f"{value:08x}"
