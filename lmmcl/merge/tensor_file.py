"""Reads and writes safetensors files a part at a time, so that memory holds what was asked for and no mapped file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from lmmcl.errors import UserError

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "U16": torch.uint16,
    "I16": torch.int16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
"""Torch's dtypes by safetensors' names."""
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_LONGEST_HEADER = 100_000_000
"""Bytes; safetensors itself takes no longer one."""


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
        stop = self.numel if stop is None else stop
        values = torch.empty(stop - start, dtype=self.dtype)
        size = values.element_size()
        buffer = _bytes(values)
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.begin + start * size)
            done = 0
            while done < len(buffer):
                count = file.readinto(buffer[done:])
                if not count:
                    raise UserError(f"{self.path} is cut short: it ends inside a tensor. Fetch it again.")
                done += count
        return values


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
        try:
            header: dict[str, Any] = json.loads(file.read(length))
        except ValueError as error:
            raise UserError(f"{path} is no safetensors file: its header is damaged ({error}).") from error
    header.pop("__metadata__", None)
    found = {key: _entry(path, key, told, 8 + length) for key, told in header.items()}
    for key, entry in found.items():
        if entry.begin + entry.numel * entry.dtype.itemsize > size:
            raise UserError(f"{path} is cut short: {key} lies behind its end. Fetch it again.")
    return dict(sorted(found.items(), key=lambda item: item[1].begin))


def _bytes(values: Tensor) -> memoryview:
    """The memory of a flat tensor."""
    held: Any = values.view(
        torch.uint8
    ).numpy()  # an array is a buffer, which its types do not say on Python 3.11
    return memoryview(held)


def _entry(path: Path, key: str, told: Mapping[str, Any], data: int) -> Entry:
    if told["dtype"] not in DTYPES:
        raise UserError(f"{path}: {key} has dtype {told['dtype']}, which torch has not.")
    dtype, shape = DTYPES[told["dtype"]], tuple(told["shape"])
    begin, end = told["data_offsets"]
    if begin < 0 or end - begin != math.prod(shape) * dtype.itemsize:
        raise UserError(f"{path}: {key} does not have the size that its shape and dtype say.")
    return Entry(path, dtype, shape, data + begin)


class TensorFileWriter:
    """Writes a safetensors file whose tensors come in order, part by part; use it in a ``with`` block.

    Args:
        path: of the file to make.
        tensors: dtype and shape by key, in the order in which they will come.
    """

    def __init__(self, path: Path, tensors: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]) -> None:
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for key, (dtype, shape) in tensors.items():
            begin, end = end, end + math.prod(shape) * dtype.itemsize
            header[key] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # readers map the data where tensors begin aligned
        self._left = end
        self._file: BinaryIO = open(path, "wb", buffering=0)  # noqa: SIM115 - closed as the block ends
        self._write(memoryview(len(text).to_bytes(8, "little") + text))

    def put(self, part: Tensor) -> None:
        """The next values."""
        data = _bytes(part.detach().contiguous().flatten())
        self._left -= len(data)
        self._write(data)

    def __enter__(self) -> TensorFileWriter:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Brings all to disk, unless the block failed; every value that the header promises must have come."""
        with self._file:
            if error is None:
                if self._left:
                    raise ValueError(f"{self._left} bytes of {self._file.name} were not written")
                os.fsync(self._file.fileno())

    def _write(self, data: memoryview) -> None:
        while data:
            data = data[self._file.write(data) :]
