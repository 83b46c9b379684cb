"""One pass over the pictures for a teacher and its student: what is frozen for both of them runs once in a step."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from lmmcl.data.batches.batch import Batch
from lmmcl.structure.picture_path import PicturePath
from lmmcl.structure.picture_recording import Recording


@dataclass(frozen=True)
class _Held:
    """What a teacher's forward found on the picture's path.

    Args:
        batch: the token ids of its batch, which it must not keep alive.
        recording: what it found.
    """

    batch: weakref.ref[Tensor]
    recording: Recording


class SharedPictures:
    """Keeps what a teacher's forward found on the picture's path for the next forward over the same batch.

    Teacher and student differ in the teacher's weights and in their mode, eval and train. Where none of those weights
    lies on the path and nothing of it trains, and where its modes agree (no dropout, no batch norm), both find the same
    there, bit for bit. It is let go of with the student's forward, and with the batch at the latest.

    Args:
        path: of the model.
    """

    def __init__(self, path: PicturePath) -> None:
        self._path = path
        self._held: _Held | None = None

    @contextmanager
    def during(self, batch: Batch, swapped: Collection[str] | None) -> Iterator[None]:
        """Holds around one forward of the model.

        Args:
            batch: of the forward.
            swapped: names of the parameters that have a teacher's values in it; None: a forward of the model as it is.
        """
        path, held = self._path, self._take(batch)
        changing = {*path.training(), *(swapped or ())}
        if held is not None and self._suits(held.recording, changing):
            with path.replaying(held.recording):
                yield
            if swapped is not None or not torch.is_grad_enabled():
                self._held = held
            return
        points = [] if swapped is None or path.trains_otherwise() else path.points(changing)
        if not points:
            yield
            return
        with path.recording(points) as recording:
            yield
        if recording.calls and self._suits(recording, changing):
            self._held = _Held(weakref.ref(batch.inputs["input_ids"], self._forget), recording)

    def _take(self, batch: Batch) -> _Held | None:
        """What is held for a batch; it is held no longer."""
        held, self._held = self._held, None
        if held is None or held.batch() is not batch.inputs["input_ids"]:
            return None
        return held

    def _suits(self, recording: Recording, changing: Collection[str]) -> bool:
        """Whether a forward in which these parameters change finds on the path what was recorded."""
        allowed = self._path.points(changing)
        return (
            all(point in allowed for point, _ in recording.calls)
            and not recording.words.intersection(changing)
            and recording.intact()
        )

    def _forget(self, batch: weakref.ref[Tensor]) -> None:
        if self._held is not None and self._held.batch is batch:
            self._held = None
