"""A batch of prompts as it is kept: what the processor made but for the pixels, and what they became."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from lmmcl.data.batches.batch import Batch
from lmmcl.evaluation.kept_outputs import put_together, taken_apart
from lmmcl.structure.picture_recording import Point, Recording


class KeptBatch:
    """Inputs and what the picture's path gave for them, as tensors and text that can be written to a file.

    Every input of floating point is pixels, and so is the mask of pixels: it is left out, and a single zero seen in its
    shape stands for it.

    Args:
        tensors: on the CPU.
        text: what they are.

    Raises:
        ValueError: the text is no such text.
    """

    def __init__(self, tensors: Mapping[str, Tensor], text: str) -> None:
        self.tensors = tensors
        self.text = text
        found = json.loads(text)
        self._inputs: dict[str, Any] = found["inputs"]
        self._calls: list[tuple[str, str, Any]] = found["calls"]

    @classmethod
    def of(cls, batch: Batch, recording: Recording) -> Self:
        """What is kept of a batch and of a recording of its forward.

        Raises:
            UnkeepableError: something in them has a kind that is not kept.
        """
        tensors: dict[str, Tensor] = {}
        inputs: dict[str, Any] = {}
        for key, value in batch.inputs.items():
            if isinstance(value, Tensor) and (value.is_floating_point() or key.startswith("pixel_")):
                inputs[key] = {"pixels": [list(value.shape), str(value.dtype).removeprefix("torch.")]}
            else:
                inputs[key] = taken_apart(value, tensors)
        calls = [
            [point.path, point.method, taken_apart(output, tensors)] for point, output in recording.calls
        ]
        return cls(tensors, json.dumps({"inputs": inputs, "calls": calls}))

    def on(self, device: torch.device, ids: Sequence[str]) -> tuple[Batch, Recording]:
        """The batch and the recording on a device.

        Args:
            device: where the model is.
            ids: of the rows.

        Raises:
            UnkeepableError: it holds an output of a class that this process does not have.
        """
        there = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        inputs: dict[str, Any] = {}
        for key, value in self._inputs.items():
            if "pixels" in value:
                shape, dtype = value["pixels"]
                inputs[key] = torch.zeros((), dtype=getattr(torch, dtype), device=device).expand(shape)
            else:
                inputs[key] = put_together(value, there)
        calls = [(Point(path, method), put_together(output, there)) for path, method, output in self._calls]
        return Batch(inputs, None, tuple(ids)), Recording(calls)
