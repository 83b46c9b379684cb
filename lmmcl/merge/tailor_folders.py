"""Model Tailor between two folders: what reaches each layer is seen on rows, then the tensors are streamed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lmmcl.data.batches.collate import Collator
from lmmcl.data.row import Row
from lmmcl.errors import UserError
from lmmcl.loading import Checkpoint
from lmmcl.merge.layer_inputs import moments_alone
from lmmcl.merge.model_folder import ADAPTER, INDEX, SINGLE, ModelFolder, located
from lmmcl.merge.model_tailor import blocks, damped, tailored
from lmmcl.merge.names import parameter_names
from lmmcl.merge.pieces import FilePieces, Merge, Piece, Pieces, landed
from lmmcl.merge.ties import most, trimmed
from lmmcl.merge.tuned import open_base, open_tuned
from lmmcl.outputs.forward import AnswerForward
from lmmcl.structure.anatomy import Anatomy
from lmmcl.weights import parameters_of

PURPOSE = "Model Tailor"
"""What rows are drawn for, here and along a sequence."""


def check_tuned(paths: Sequence[str]) -> str:
    """The one tuned model that can be tailored.

    Raises:
        UserError: there are several, or it is an adapter.
    """
    if len(paths) != 1:
        raise UserError(
            f"--method model_tailor patches the base with the change of one tuned model, got {len(paths)}; merge them "
            "by another method first, such as ties, and tailor the result."
        )
    folder = located(paths[0])
    whole = (folder / SINGLE).exists() or (folder / INDEX).exists()
    if (folder / ADAPTER).exists() and not whole:
        raise UserError(
            f"--method model_tailor runs TUNED to see what reaches its layers, and {paths[0]} is an adapter; fold it "
            f"first: lmmcl merge BASE {paths[0]} --method task_arithmetic --to FOLDER, and give that folder."
        )
    return paths[0]


@torch.no_grad()
def tailor_folders(
    base: str, tuned: str, rows: Sequence[Row], settings: Mapping[str, float], device: torch.device
) -> Merge:
    """θ_base + a sparse patch of the change, as `lmmcl.callbacks.ModelTailor` makes it at the end of a task.

    TUNED is loaded whole, and its layers are tailored in the order of the model, one block at a time, so that a layer
    sees the inputs that the patched layers before it give: one forward a row and block that moved. Stored tensors that
    transformers joins when it loads them (experts) keep their most salient values, each for itself, and are seen
    unpatched by the layers behind them.

    Args:
        base: folder or hub id.
        tuned: folder or hub id of a whole model.
        rows: with answers; not looked at where ``keep`` is 0 or 1.
        settings: ``keep`` and ``damping``.
        device: where TUNED runs.

    Returns:
        The merge of one tensor of the two folders.

    Raises:
        UserError: the models do not fit each other, or cannot be loaded.
    """
    keep, damping = settings["keep"], settings["damping"]
    patched: dict[str, Tensor] = {}
    if 0 < keep < 1:
        before = open_base(base)
        after = open_tuned(before, tuned)
        patched = _Tailor(before, after, base, tuned, device).patch(rows, keep, damping)

    def merge(tensor: Pieces) -> Callable[[Piece], Tensor]:
        if tensor.name not in patched:
            return _salient(tensor, keep)
        flat = patched[tensor.name].reshape(-1)
        return lambda piece: flat[piece.start : piece.start + len(piece.base)].to("cpu", piece.base.dtype)

    return merge


class _Tailor:
    """TUNED in memory, whose tensors are patched one after the other.

    Args:
        before: the base's files.
        after: the tuned model's, under the base's keys.
        base: path of the base, whose processor makes the prompts: it is the merge's.
        tuned: path of the tuned model.
        device: where it runs.
    """

    def __init__(
        self, before: ModelFolder, after: ModelFolder, base: str, tuned: str, device: torch.device
    ) -> None:
        self._before, self._after = before, after
        eager = "eager" if device.type == "cpu" else None
        model: Any = Checkpoint(tuned).model(False, 0, eager)
        self._model: nn.Module = model.requires_grad_(False).to(device)
        text = model.config.get_text_config()
        limit = getattr(text, "max_position_embeddings", None)
        self._collator = Collator(Checkpoint(base).processor(), limit)
        halves = any(p.dtype != torch.float32 for p in self._model.parameters() if p.is_floating_point())
        self._forwards = AnswerForward(self._model, bf16=halves)

    def patch(self, rows: Sequence[Row], keep: float, damping: float) -> dict[str, Tensor]:
        """The patched values of all parameters that moved, by the base's key."""
        parameters = parameters_of(self._model)
        keys = {name: key for key, name in parameter_names(self._before).items() if self._moved(key)}
        found: dict[str, Tensor] = {}
        names = [name for name in parameters if name in keys]
        for linears, others in blocks(self._model, Anatomy.of(self._model), names):
            moments = (
                moments_alone(self._model, self._forwards, self._collator, rows, list(linears))
                if linears
                else {}
            )
            hessians = {linears[path]: damped(total, damping) for path, total in moments.items()}
            for name in (*linears.values(), *others):
                value, key = parameters[name], keys[name]
                made = self._tailored(key, hessians.get(name), keep, value.device)
                value.copy_(made)
                # In the model's own memory, unless the files hold it in another dtype.
                found[key] = value.data if value.dtype == made.dtype else made
        return found

    def _tailored(self, key: str, hessian: Tensor | None, keep: float, device: torch.device) -> Tensor:
        base, tuned = (folder.read(key).to(device) for folder in (self._before, self._after))
        return tailored(base, tuned, hessian, keep)

    def _moved(self, key: str) -> bool:
        pieces = FilePieces(key, self._before, [self._after])
        return any(not torch.equal(piece.base, piece.tuned[0]) for piece in pieces)


def _salient(tensor: Pieces, keep: float) -> Callable[[Piece], Tensor]:
    """The base with the largest values of a change, as they are."""
    ((largest,),) = most(tensor, keep)

    def merged(piece: Piece) -> Tensor:
        patch = trimmed(piece.vectors[0], largest, partial(tensor.positions, piece))
        return landed(piece, piece.vectors, patch)

    return merged
