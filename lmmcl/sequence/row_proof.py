"""Proves, before a task keeps features of its rows, that those of rows make those of their batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lmmcl.agreement import most
from lmmcl.data.batches.apart import NotApartError
from lmmcl.data.batches.batch import Batch
from lmmcl.data.row import Row
from lmmcl.evaluation.kept_outputs import UnkeepableError
from lmmcl.model import ContinualLMM
from lmmcl.outputs.row_features import row_pass
from lmmcl.structure.joined_outputs import Joint, UnjoinableError, joint_of
from lmmcl.structure.picture_path import PicturePath
from lmmcl.structure.picture_recording import FEATURES, Point, tensors_in

_ROUNDING = 1e-3
"""Share of the norm of all features by which those of rows may differ from those of their batch, in fp32."""
_COARSE = 5e-2
"""The same in bf16; features of another picture differ by about 1."""
_PROVEN = 3
"""Rows of the proof."""


def prove_rows(
    module: ContinualLMM, path: PicturePath, rows: Sequence[Row]
) -> tuple[list[Point], Joint, set[str]]:
    """Compares a few rows, one by one, with their batch; collective.

    What the processor makes of them must be the same bit for bit, and the features to rounding: 1e-3 of their norm in
    fp32, 5e-2 in bf16. With the same inputs and features the rest of the model computes the same.

    Args:
        module: the model.
        path: of the model; nothing on it trains.
        rows: with pictures, the same on every process.

    Returns:
        where the model asks for features, how those of rows make those of a batch, and the names of the language
        model's parameters on which they depend.

    Raises:
        UnkeepableError: on every process, if they differ on one.
    """
    points = [point for point in path.points(()) if point.method == FEATURES]
    found: tuple[Joint, set[str]] | None = None
    reason = "another process found them different"
    try:
        found = _proven(module, path, points, rows)
    except (UnkeepableError, UnjoinableError, NotApartError) as error:
        reason = str(error)
    if most(int(found is None)) or found is None:
        raise UnkeepableError(reason)
    return points, *found


def _proven(
    module: ContinualLMM, path: PicturePath, points: Sequence[Point], rows: Sequence[Row]
) -> tuple[Joint, set[str]]:
    if not points:
        raise UnkeepableError(f"it has no {FEATURES}")
    collator, device = module.data.collator, module.device
    fitting = [row for row in rows if collator.train([row]).ids[0] == row.id][:_PROVEN]
    if not fitting:
        raise UnkeepableError("none of the first rows with a picture fits into model.max_length")
    chosen = fitting if len(fitting) > 1 else fitting * 2
    whole, apart = collator.train(chosen), collator.train(chosen, apart=True)
    _compare_inputs(whole, apart)
    with path.recording(points) as recording:
        _forward(module, whole.to(device))
    if [point.method for point, _ in recording.calls] != [FEATURES]:
        raise UnkeepableError(f"it asks {len(recording.calls)} times for the features of a batch")
    return _joint(module, path, points, apart.to(device), recording.calls[0][1]), recording.words


def _joint(
    module: ContinualLMM, path: PicturePath, points: Sequence[Point], batch: Batch, whole: Any
) -> Joint:
    """How features of rows make those of their batch, which they are compared with inside a forward."""
    found: list[Joint] = []
    inside = [False]

    def compare(point: Point, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if inside[0]:  # one model hands on to another
                return original(*arguments, **named)
            inside[0] = True
            rows = [row for row in batch.pictures if row is not None]
            parts = [row_pass(original, row, batch.inputs, arguments, named) for row in rows]
            found.append(joint_of(whole, parts))
            made = found[0](parts)
            _compare_features(made, whole)
            return made

        return call

    with path.replaced(points, compare):
        _forward(module, batch)
    return found[0]


def _forward(module: ContinualLMM, batch: Batch) -> None:
    with module.inference(gather=False):
        module.token_outputs(batch)
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
