"""Where tensors lie in a safetensors file, and their memory as plain bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

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


def header(
    tensors: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], metadata: Mapping[str, str] | None = None
) -> bytes:
    """What a safetensors file begins with; the tensors' values follow it without a gap.

    Args:
        tensors: dtype and shape by key, in the order in which their values follow.
        metadata: what else the file says of itself.
    """
    told: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    end = 0
    for key, (dtype, shape) in tensors.items():
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        told[key] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # readers map the data where tensors begin aligned
    return len(text).to_bytes(8, "little") + text


def as_bytes(values: Tensor) -> Tensor:
    """The memory of a contiguous tensor, (bytes,), uint8."""
    return values.reshape(-1).view(torch.uint8)


def memory_of(values: Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU."""
    held: Any = as_bytes(values).numpy()  # an array is a buffer, which its types do not say on Python 3.11
    return memoryview(held)
