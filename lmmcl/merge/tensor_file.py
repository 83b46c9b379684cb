"""Reads and writes safetensors files a part at a time, so that memory holds what was asked for and no mapped file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import torch
from torch import Tensor

from lmmcl.errors import UserError
from lmmcl.tensor_layout import DTYPES, header, memory_of

_LONGEST_HEADER = 100_000_000
"""Bytes; safetensors itself takes no longer one."""
_FLUSHED = 1 << 28
"""Bytes after which a file is brought to disk while more are computed, so that its end waits for few."""


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies in a file.

    Args:
        path: of the file.
        dtype: as stored.
        shape: of the tensor.
        begin: its first byte in the file.
    """

    path: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int

    @property
    def numel(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def read(self, start: int = 0, stop: int | None = None) -> Tensor:
        """Values ``start`` to ``stop`` of the flattened tensor, (stop − start,), on the CPU as they are stored."""
        values = torch.empty((self.numel if stop is None else stop) - start, dtype=self.dtype)
        self.read_into(values, start)
        return values

    def read_into(self, values: Tensor, start: int = 0) -> None:
        """Fills a flat tensor of the stored dtype with the values from ``start`` on; threads may read at once."""
        buffer, at = memory_of(values), self.begin + start * values.element_size()
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            while buffer:
                count = os.preadv(descriptor, [buffer], at)
                if not count:
                    raise UserError(f"{self.path} is cut short: it ends inside a tensor. Fetch it again.")
                buffer, at = buffer[count:], at + count
        finally:
            os.close(descriptor)


def entries(path: Path) -> dict[str, Entry]:
    """The tensors of a safetensors file by key, in the file's order.

    Raises:
        UserError: the file is cut short, or is none.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 0 < length <= min(size - 8, _LONGEST_HEADER):
            raise UserError(f"{path} is no whole safetensors file. Fetch it again.")
        head = file.read(length)
    try:
        told: dict[str, Any] = json.loads(head)
        told.pop("__metadata__", None)
        found = {key: _entry(path, key, entry, 8 + length) for key, entry in told.items()}
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is no safetensors file: its header is damaged ({error}).") from error
    for key, entry in found.items():
        if entry.begin + entry.numel * entry.dtype.itemsize > size:
            raise UserError(f"{path} is cut short: {key} lies behind its end. Fetch it again.")
    return dict(sorted(found.items(), key=lambda item: item[1].begin))


def _entry(path: Path, key: str, told: Mapping[str, Any], data: int) -> Entry:
    if told["dtype"] not in DTYPES:
        raise UserError(f"{path}: {key} has dtype {told['dtype']}, which torch has not.")
    dtype, shape = DTYPES[told["dtype"]], tuple(told["shape"])
    begin, end = told["data_offsets"]
    if begin < 0 or end - begin != math.prod(shape) * dtype.itemsize:
        raise UserError(f"{path}: {key} does not have the size that its shape and dtype say.")
    return Entry(path, dtype, shape, data + begin)


class TensorFileWriter:
    """Writes a safetensors file part by part, in whatever order; use it in a ``with`` block.

    Parts may come from several threads, each part once.

    Args:
        path: of the file to make.
        tensors: dtype and shape by key, in the order in which they will lie.
    """

    def __init__(self, path: Path, tensors: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]) -> None:
        head = header(tensors, {"format": "pt"})
        self._places, end = {}, len(head)
        for key, (dtype, shape) in tensors.items():
            self._places[key], end = end, end + math.prod(shape) * dtype.itemsize
        self._left, self._lock, self._flushed = end, Lock(), end
        self._flusher = ThreadPoolExecutor(1)
        self._flushing: Future[None] | None = None
        self._next = len(head)
        self._file: BinaryIO = open(path, "wb", buffering=0)  # noqa: SIM115 - closed as the block ends
        self._write(memoryview(head), 0)

    def put(self, part: Tensor) -> None:
        """The next values, where all come in order."""
        self._next = self._write(memory_of(part.detach().contiguous()), self._next)

    def put_at(self, key: str, start: int, part: Tensor) -> None:
        """The values of a flattened tensor from ``start`` on."""
        at = self._places[key] + start * part.element_size()
        self._write(memory_of(part.detach().contiguous()), at)

    def __enter__(self) -> TensorFileWriter:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Brings all to disk, unless the block failed; every value that the header promises must have come."""
        with self._file, self._flusher:
            if error is None:
                if self._left:
                    raise ValueError(f"{self._left} bytes of {self._file.name} were not written")
                if self._flushing is not None:
                    self._flushing.result()
                os.fsync(self._file.fileno())

    def _write(self, data: memoryview, at: int) -> int:
        with self._lock:
            self._left -= len(data)
            resting = self._flushing is None or self._flushing.done()
            if resting and self._flushed - self._left > _FLUSHED:
                if self._flushing is not None:
                    self._flushing.result()  # a failure is told once
                self._flushed = self._left
                self._flushing = self._flusher.submit(os.fsync, self._file.fileno())
        while data:
            count = os.pwrite(self._file.fileno(), data, at)
            data, at = data[count:], at + count
        return at
