"""Proves, before a task keeps features of its rows, that those of rows make those of their batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from lmmcl.agreement import most
from lmmcl.data.batches.apart import NotApartError
from lmmcl.data.batches.batch import Batch
from lmmcl.data.batches.collate import FORWARD_REFUSALS
from lmmcl.data.row import Row
from lmmcl.evaluation.kept_outputs import UnkeepableError
from lmmcl.model import ContinualLMM
from lmmcl.outputs.row_features import row_pass
from lmmcl.structure.joined_outputs import Joint, UnjoinableError, joint_of
from lmmcl.structure.picture_path import PicturePath
from lmmcl.structure.picture_recording import FEATURES, Point, copied, tensors_in

_ROUNDING = 1e-3
"""Share of the norm of all features by which those of rows may differ from those of their batch, in fp32."""
_COARSE = 5e-2
"""The same in bf16; features of another picture differ by about 1."""
_PROVEN = 3
"""Rows of the proof, one without a picture not among them."""
_FAILURES = (UnkeepableError, UnjoinableError, NotApartError, AttributeError, *FORWARD_REFUSALS)
"""What says that rows of a model are not kept; never a lack of memory."""

Found = TypeVar("Found")


def prove_rows(
    module: ContinualLMM, path: PicturePath, rows: Sequence[Row], text: Row | None = None
) -> tuple[list[Point], Joint, set[str]]:
    """Compares a few rows, one by one, with their batch; collective.

    What the processor makes of them must be the same bit for bit, and the features to rounding: 1e-3 of their norm in
    fp32, 5e-2 in bf16. With the same inputs and features the rest of the model computes the same.

    Args:
        module: the model.
        path: of the model; nothing on it trains.
        rows: with pictures, the same on every process.
        text: a row without a picture that stands in batches with the others; None: there is none.

    Returns:
        where the model asks for features, how those of rows make those of a batch, and the names of the language
        model's parameters on which they depend.

    Raises:
        UnkeepableError: on every process, if they differ on one, or if one fails.
    """
    points = [point for point in path.points(()) if point.method == FEATURES]
    if not points:
        raise UnkeepableError(f"it has no {FEATURES}")
    # Processes agree before each forward: in one that shards the model they wait for each other.
    whole, apart = _on_all(lambda: _batches(module, rows, text))
    features, words = _on_all(lambda: _recorded(module, path, points, whole))
    return points, _on_all(lambda: _joint(module, path, points, apart, features)), words


def _on_all(step: Callable[[], Found]) -> Found:
    """What a step gives; if it fails on one process, UnkeepableError on all of them."""
    found: Found | None = None
    reason = "another process found them different"
    try:
        found = step()
    except torch.OutOfMemoryError:
        raise
    except _FAILURES as error:
        reason = _told(error)
    if most(int(found is None)) or found is None:
        raise UnkeepableError(reason)
    return found


def _told(error: Exception) -> str:
    """Why rows are not kept; an error that nobody foresaw is named by its kind."""
    foreseen = isinstance(error, UnkeepableError | UnjoinableError | NotApartError)
    return str(error) if foreseen else f"{type(error).__name__}: {error}"


def _batches(module: ContinualLMM, rows: Sequence[Row], text: Row | None) -> tuple[Batch, Batch]:
    """A few rows as the processor makes them together and one by one."""
    collator, device = module.data.collator, module.device
    fitting = [row for row in rows if collator.train([row]).ids[0] == row.id][:_PROVEN]
    if not fitting:
        raise UnkeepableError("none of the first rows with a picture fits into model.max_length")
    chosen = fitting if len(fitting) > 1 else fitting * 2
    if text is not None:
        chosen = [chosen[0], text, *chosen[1:]]
    whole, apart = collator.train(chosen), collator.train(chosen, apart=True)
    _compare_inputs(whole, apart)
    return whole.to(device), apart.to(device)


def _recorded(
    module: ContinualLMM, path: PicturePath, points: Sequence[Point], whole: Batch
) -> tuple[Any, set[str]]:
    """The features of a batch, and the names of the language model's parameters on which they depend."""
    with path.recording(points) as recording:
        _forward(module, whole)
    if [point.method for point, _ in recording.calls] != [FEATURES]:
        raise UnkeepableError(f"it asks {len(recording.calls)} times for the features of a batch")
    return recording.calls[0][1], recording.words


def _joint(
    module: ContinualLMM, path: PicturePath, points: Sequence[Point], batch: Batch, whole: Any
) -> Joint:
    """How features of rows make those of their batch, which they are compared with inside a forward."""
    found: list[Joint] = []
    failed: list[Exception] = []
    inside = [False]

    def made(rows: Sequence[Any]) -> Any:
        """The batch's features of those of rows; its own where they differ: the forward goes on on every process."""
        try:
            joint = joint_of(whole, rows)
            features = joint(rows)
            _compare_features(features, whole)
        except torch.OutOfMemoryError:
            raise
        except _FAILURES as error:
            failed.append(error)
            return copied(whole)
        found.append(joint)
        return features

    def compare(point: Point, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if inside[0]:  # one model hands on to another
                return original(*arguments, **named)
            inside[0] = True
            rows = [row for row in batch.pictures if row is not None]
            try:
                parts = [row_pass(original, row, batch.inputs, arguments, named) for row in rows]
            except UnkeepableError as error:  # before the first pass, and so on every process
                failed.append(error)
                return copied(whole)
            return made(parts)

        return call

    with path.replaced(points, compare):
        _forward(module, batch)
    if failed:
        raise failed[0]
    return found[0]


def _forward(module: ContinualLMM, batch: Batch) -> None:
    with module.inference(gather=False):
        try:
            module.token_outputs(batch)
        finally:
            module.free_gathered()


def _compare_inputs(whole: Batch, apart: Batch) -> None:
    """Raises UnkeepableError if rows that were processed one by one make another batch."""
    for name in whole.inputs.keys() | apart.inputs.keys():
        one, other = whole.inputs.get(name), apart.inputs.get(name)
        if not isinstance(one, Tensor) or not isinstance(other, Tensor):
            raise UnkeepableError(f"its processor does not always give {name}, or gives no tensor")
        if one.dtype != other.dtype or not torch.equal(one, other):
            raise UnkeepableError(f"its processor makes another {name} of rows one by one")


def _compare_features(made: Any, whole: Any) -> None:
    """Raises UnkeepableError if features of rows are not those of their batch, to rounding."""
    for one, other in zip(tensors_in(made), tensors_in(whole), strict=True):
        wanted = other.double()
        difference = float((one.double() - wanted).norm() / wanted.norm().clamp(min=1e-12))
        if not difference <= (_ROUNDING if other.dtype == torch.float32 else _COARSE):
            raise UnkeepableError(f"features of rows differ by {difference:.1%} from those of their batch")
