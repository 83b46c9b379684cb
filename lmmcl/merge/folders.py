"""Merges model folders tensor by tensor, and writes the result as a folder of the base's layout."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmmcl.errors import UserError
from lmmcl.merge.lanes import count, equal
from lmmcl.merge.model_folder import INDEX, ModelFolder, located
from lmmcl.merge.pieces import FilePieces, Merge, Piece
from lmmcl.merge.tensor_file import TensorFileWriter
from lmmcl.merge.tuned import open_base, open_tuned
from lmmcl.provenance import without_paths
from lmmcl.run.new_folder import check_new_folder, new_folder
from lmmcl.run.readable_json import as_json

PROVENANCE = "lmmcl.json"
_BESIDE = ("*.json", "*.jinja", "*.txt", "*.model", "*.py")
"""What a base brings besides its weights: config, generation config, tokenizer, processor, chat template, code."""
_MOST_WORKERS = 8
"""Each holds some ten megabytes for every model, and beyond a few the disk is what they wait for."""
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass
class Moved:
    """How far a merge went from its base.

    Args:
        values: all floating-point values.
        moved: those of them that are not the base's any more.
        distance: ‖θ_merged − θ_base‖.
        changes: ‖τ‖ of each tuned model.
    """

    values: int = 0
    moved: int = 0
    distance: float = 0.0
    changes: list[float] = field(default_factory=list)

    def sentence(self, names: Sequence[str]) -> str:
        """In words; ``names`` are those of the tuned models."""
        if not any(self.changes):
            return "The tuned models hold the base's values, and so does the merge."
        shares = [
            f"{self.distance / change:.2f} of {name}'s" if change else f"{name} is the base"
            for name, change in zip(names, self.changes, strict=True)
        ]
        share = 100 * self.moved / self.values
        return (
            f"{share:.3g} % of {self.values:,} values moved; the norm of the change is {', '.join(shares)}."
        )


def merge_folders(
    base: str, tuned: Sequence[str], to: Path, merge: Merge, told: Mapping[str, Any], overwrite: bool = False
) -> Moved:
    """Merges tuned models with their base, in memory of a few pieces of one tensor.

    Floating-point tensors are merged; integer ones and masks must be the same in all models. Config, generation
    config, tokenizer and processor are the base's.

    Args:
        base: folder or hub id of the base model.
        tuned: folders or hub ids of models tuned from it, or of LoRA adapters.
        to: folder to make, in one step.
        merge: of one tensor.
        told: what ``lmmcl.json`` is to say of it.
        overwrite: replace files of the same names in a folder that holds some, and all weights that lie there.

    Raises:
        UserError: the models do not fit each other, or ``to`` holds something, is one of them, or cannot be written.
    """
    check_target(to, [base, *tuned], overwrite)
    model = open_base(base)
    models = [open_tuned(model, path) for path in tuned]
    _check_kinds(model, models)
    size = sum(math.prod(model.shape(key)) * model.dtype(key).itemsize for key in model.keys())
    with new_folder(to) as partial:
        if (free := shutil.disk_usage(partial).free) < size:
            raise OSError(f"the merge takes {size / 1e9:.2f} GB, {free / 1e9:.2f} GB are free")
        for file in sorted({file for pattern in _BESIDE for file in model.folder.glob(pattern)}):
            if file.name not in (INDEX, PROVENANCE):
                shutil.copyfile(file, partial / file.name)
        moved = _write_weights(model, models, partial, merge)
        if (model.folder / INDEX).exists():
            index = {
                "metadata": {"total_size": size},
                "weight_map": {key: model.file(key) for key in model.keys()},
            }
            (partial / INDEX).write_bytes(as_json(index))
        (partial / PROVENANCE).write_bytes(as_json({"merge": told}))
    return moved


def _write_weights(base: ModelFolder, tuned: Sequence[ModelFolder], to: Path, merge: Merge) -> Moved:
    """Writes one file after the other, the pieces of each tensor on all processors at once."""
    seen = _Seen(len(tuned))
    with _workers() as pool:
        for file in dict.fromkeys(base.file(key) for key in base.keys()):
            keys = [key for key in base.keys() if base.file(key) == file]
            tensors = {key: (base.dtype(key), base.shape(key)) for key in keys}
            pending: list[Future[_Sums | None]] = []
            with TensorFileWriter(to / file, tensors) as writer:
                for key in keys:
                    pieces, summed = FilePieces(key, base, tuned), base.dtype(key) in _FLOATS
                    with torch.no_grad():
                        merged_of = merge(pieces) if summed else _equal(pieces, base, tuned)
                    done = pending
                    pending = [
                        pool.submit(_merge_piece, pieces, start, merged_of, writer, summed)
                        for start in pieces.starts()
                    ]
                    seen.add(done)  # no more than two tensors are under way
                seen.add(pending)
    return seen.moved()


@contextmanager
def _workers() -> Iterator[ThreadPoolExecutor]:
    """A thread for each processor, each of which computes alone."""
    before = torch.get_num_threads()
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ThreadPoolExecutor(min(_MOST_WORKERS, here))
    torch.set_num_threads(1)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


@torch.no_grad()
def _merge_piece(
    pieces: FilePieces,
    start: int,
    merged_of: Callable[[Piece], Tensor],
    writer: TensorFileWriter,
    summed: bool,
) -> _Sums | None:
    piece = pieces.at(start)
    merged = merged_of(piece)
    writer.put_at(pieces.name, start, merged)
    return _Sums.of(piece, merged) if summed else None


@dataclass(frozen=True)
class _Sums:
    """Of a piece: its values, how many moved, and the squared norms of the change and of the task vectors."""

    values: int
    moved: int
    square: float
    squares: Sequence[float]

    @classmethod
    def of(cls, piece: Piece, merged: Tensor) -> _Sums:
        change = merged.float() - piece.in_fp32[0]
        moved = len(change) - count(equal(change, 0.0))
        squares = [float(vector.dot(vector)) for vector in piece.vectors]
        return cls(len(change), moved, float(change.dot(change)), squares)


class _Seen:
    """Sums over pieces from which follows how far a merge went."""

    def __init__(self, models: int) -> None:
        self._values = self._moved = 0
        self._square = 0.0
        self._squares = [0.0] * models

    def add(self, pieces: Sequence[Future[_Sums | None]]) -> None:
        """Waits for some pieces, in their order, so that sums are the same however they were shared out."""
        for sums in (piece.result() for piece in pieces):
            if sums is None:
                continue
            self._values += sums.values
            self._moved += sums.moved
            self._square += sums.square
            self._squares = [a + b for a, b in zip(self._squares, sums.squares, strict=True)]

    def moved(self) -> Moved:
        distances = [math.sqrt(square) for square in self._squares]
        return Moved(self._values, self._moved, math.sqrt(self._square), distances)


def _equal(pieces: FilePieces, base: ModelFolder, tuned: Sequence[ModelFolder]) -> Callable[[Piece], Tensor]:
    """For tensors that no sum makes sense of: the base's values, which must be those of all."""

    def same(piece: Piece) -> Tensor:
        for model, values in zip(tuned, piece.tuned, strict=True):
            if not torch.equal(values.view(torch.uint8), piece.base.view(torch.uint8)):
                raise UserError(
                    f"{pieces.name} holds {piece.base.dtype} values, of which no sum can be made, and they differ "
                    f"between {base.name} and {model.name}."
                )
        return piece.base

    return same


def _check_kinds(base: ModelFolder, tuned: Sequence[ModelFolder]) -> None:
    """Refuses eight-bit floats, whose scales lie elsewhere, before anything is written."""
    for key in base.keys():
        dtype = base.dtype(key)
        if dtype.is_floating_point and dtype not in _FLOATS:
            raise UserError(
                f"{key} is quantised ({dtype}) in {base.name}; merge the models that it was made from."
            )
    if not tuned:
        raise UserError("a merge needs at least one tuned model.")


def check_target(to: Path, inputs: Sequence[str], overwrite: bool) -> None:
    """Refuses to write over anything, and over what is read in any case.

    Args:
        to: folder to make.
        inputs: folders or hub ids that are read.
        overwrite: allow a folder that holds something.

    Raises:
        UserError: see above.
    """
    check_new_folder(to, {name: located(name) for name in inputs}, overwrite)


def provenance(base: str, tuned: Sequence[str], method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What ``lmmcl.json`` says: names without the paths of this machine."""
    return {
        "base": without_paths(base, "path"),
        "method": method,
        "settings": dict(settings),
        "tuned": [without_paths(path, "path") for path in tuned],
    }
