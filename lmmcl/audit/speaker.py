"""One model object that stands for BASE, TUNED and every mixture in turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lmmcl.audit.candidate import Candidate, fill
from lmmcl.audit.two_models import TwoModels, tensors_of
from lmmcl.audit.voice import Voice


class Speaker:
    """What `lmmcl.evaluation.evaluator.evaluate` needs of a model, with the weights of a candidate.

    The weights are mixed when they are first needed: a candidate whose answers are all kept costs nothing.

    Args:
        two: both models.
        device: where the answers are made.
        precision: ``bf16-mixed`` computes in bf16, ``32-true`` in fp32 on the values as they would be written.
    """

    def __init__(self, two: TwoModels, device: torch.device, precision: str) -> None:
        self._two = two
        self._precision = precision
        self._device = device
        self._placed = False
        self._dtypes: dict[str, torch.dtype] = {}
        self._filled = Candidate.everywhere([], 0.0)
        self.candidate = self._filled
        self.voice: Voice = two.voices["tuned"]

    @property
    def model(self) -> Any:
        """The transformers model."""
        return self._two.model

    @property
    def processor(self) -> Any:
        """The processor that the candidate is asked with."""
        return self.voice.processor

    @property
    def device(self) -> torch.device:
        """Where the prompts go."""
        return self._device

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Eval mode, autocast and the candidate's weights."""
        self.take(self.candidate)
        self.model.generation_config = self.voice.generation
        bf16 = self._precision == "bf16-mixed"
        with torch.no_grad(), torch.autocast(self._device.type, torch.bfloat16, enabled=bf16):
            yield

    def take(self, candidate: Candidate) -> None:
        """Puts a candidate's weights into the model."""
        if not self._placed:
            self._place()
        if candidate != self._filled:
            two = self._two
            fill(tensors_of(two.model), two.base, two.tuned, two.group_of, candidate)
            self._filled = candidate

    @torch.no_grad()
    def as_stored(self, candidate: Candidate) -> Any:
        """The model with a candidate's weights in the tuned model's own dtypes, to be written; exact."""
        self.take(candidate)
        for name, tensor in tensors_of(self.model).items():
            self._own(self.model, name, tensor.to(self._dtypes[name]))
        return self.model

    @torch.no_grad()
    def _place(self) -> None:
        """Gives the model tensors of its own where values will change; all others stay mapped from their files."""
        model = self._two.model
        model.eval()
        for name, tensor in tensors_of(model).items():
            self._dtypes[name] = tensor.dtype
            if name in self._two.tuned and self._device.type == "cpu":  # elsewhere the move makes the copy
                self._own(model, name, tensor.clone())
        model.to(device=self._device, dtype=torch.float32 if self._precision == "32-true" else None)
        self._placed = True

    @staticmethod
    def _own(model: Any, name: str, value: torch.Tensor) -> None:
        path, _, leaf = name.rpartition(".")
        held = getattr(model.get_submodule(path), leaf)
        held.data = value  # of the one object that tied modules share
