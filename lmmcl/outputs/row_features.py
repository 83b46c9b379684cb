"""Features of training rows under a frozen vision tower: computed from each row's own pixels, once, and kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from lmmcl.agreement import most
from lmmcl.data.batches.apart import RowPictures, unforeseen
from lmmcl.data.batches.batch import Batch
from lmmcl.data.batches.collate import FORWARD_REFUSALS
from lmmcl.evaluation.feature_folder import FeatureFolder
from lmmcl.evaluation.kept_outputs import UnkeepableError, put_together, taken_apart
from lmmcl.structure.joined_outputs import Joint
from lmmcl.structure.picture_path import PicturePath
from lmmcl.structure.picture_recording import Point, map_tensors, needed


class RowFeatures:
    """Answers the model where it asks for the features of a batch: by those of its rows, laid together.

    A row stands in another batch in every epoch. Its features are therefore computed from its own pixels alone, whether
    they are found again or not: what is in the folder, has room in it or was lost by a kill changes no bit of them. The
    model's own forward runs and is answered inside it, where sharded weights are gathered and autocast is on.

    Args:
        path: of the model; none of it trains.
        points: where the model asks.
        joint: how features of rows make those of a batch.
        state: all that features depend on beside a row's pixels.
        folder: where they are kept.
        words: names of the language model's parameters on which they depend.
        together: vision blocks are sharded: all processes pass them equally often, or they wait for each other.
    """

    def __init__(
        self,
        path: PicturePath,
        points: Sequence[Point],
        joint: Joint,
        state: str,
        folder: FeatureFolder,
        words: Collection[str] = (),
        together: bool = False,
    ) -> None:
        self._path, self._points, self._joint = path, points, joint
        self._state, self._folder, self._together = state, folder, together
        self._names = frozenset(path.parameters(words))

    @contextmanager
    def answering(self, batch: Batch, swapped: Collection[str] | None) -> Iterator[None]:
        """Holds around one forward of the model.

        Args:
            batch: of the forward.
            swapped: names of the parameters that have other values in it; None: a forward of the model as it is.
        """
        if not batch.pictures or not self._names.isdisjoint(swapped or ()):
            yield
            return
        inside = [False]

        def answer(point: Point, original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                if inside[0]:  # one model hands on to another
                    return original(*arguments, **named)
                inside[0] = True
                try:
                    rows = self._of_rows(
                        batch, lambda row: row_pass(original, row, batch.inputs, arguments, named)
                    )
                    return self._whole(rows)
                except UnkeepableError as error:
                    raise unforeseen(error) from error
                finally:
                    inside[0] = False

            return call

        with self._path.replaced(self._points, answer):
            yield

    def _whole(self, rows: Sequence[Any]) -> Any:
        try:
            return self._joint(rows)
        except torch.OutOfMemoryError:
            raise
        except FORWARD_REFUSALS as error:  # other shapes, other fields, another number of entries
            raise UnkeepableError(f"{type(error).__name__}: {error}") from error

    def _of_rows(self, batch: Batch, run: Callable[[RowPictures], Any]) -> list[Any]:
        """The features of each row that has pictures, in order."""
        device = batch.inputs["input_ids"].device
        rows = {row.key: row for row in batch.pictures if row is not None}
        found = {key: self._find(key, device) for key in rows}
        missing = [row for key, row in rows.items() if found[key] is None]
        spare = most(len(missing)) - len(missing) if self._together else 0
        for row in missing:
            found[row.key] = run(row)
        for _ in range(spare):
            run(next(iter(rows.values())))
        for row in missing:
            tensors: dict[str, Tensor] = {}
            text = json.dumps(taken_apart(found[row.key], tensors))
            self._folder.keep(self._key(row.key), tensors, text)
        return [found[row.key] for row in batch.pictures if row is not None]

    def _find(self, key: str, device: torch.device) -> Any:
        kept = self._folder.find(self._key(key))
        if kept is None:
            return None
        tensors, text = kept
        return put_together(json.loads(text), {name: tensor.to(device) for name, tensor in tensors.items()})

    def _key(self, key: str) -> str:
        return sha256(f"{self._state} {key}".encode()).hexdigest()


def row_pass(
    original: Callable[..., Any],
    row: RowPictures,
    inputs: Mapping[str, Any],
    arguments: Sequence[Any],
    named: Mapping[str, Any],
) -> Any:
    """What a function on the picture's path returns for one row of a batch.

    Args:
        original: the function.
        row: the row's pictures.
        inputs: of the batch.
        arguments: what the model calls the function with for the batch; tensors among them are inputs of the batch.
        named: likewise, by name.

    Returns:
        contiguous tensors without a gradient, as they come back from a file.

    Raises:
        UnkeepableError: the model hands on something else than inputs.
    """
    own = row.inputs(inputs)

    def part(name: str, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if name not in own or value.shape != inputs[name].shape:
            raise UnkeepableError(f"its features depend on {name} of {tuple(value.shape)}")
        return own[name].to(value.dtype)

    # Called as the model calls it: decorators of transformers take arguments by name for given.
    ordered = [
        part(name, value) for name, value in zip(signature(original).parameters, arguments, strict=False)
    ]
    with torch.no_grad():
        output = original(*ordered, **{name: part(name, value) for name, value in named.items()})
    return map_tensors(needed(output), Tensor.contiguous)
