"""The model that a run began with, loaded again and proved to be the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch

from lmmcl.adapters.fold import folds_of
from lmmcl.building.frozen_linear import BLOCK, packed
from lmmcl.errors import UserError
from lmmcl.loading import Checkpoint
from lmmcl.run.checkpoint import PieceReader
from lmmcl.run.run_folder import RunFolder
from lmmcl.sequence.resume import BASE
from lmmcl.weights import checksums


@torch.no_grad()
def base_model(checkpoint: Checkpoint, folder: RunFolder, stage: str) -> tuple[Any, torch.dtype]:
    """The base model, whose tensors are proved to be those that the run held and the stage did not train.

    It is loaded again in fp32 where the run held values that the checkpoint's own dtype rounds.

    Args:
        checkpoint: of the run.
        folder: of the run.
        stage: such as ``02-word``.

    Returns:
        The model, and the checkpoint's own dtype.

    Raises:
        UserError: it is not the model that the run began with.
    """
    held = json.loads(folder.config.read_bytes())
    lineage, reader = folder.lineage(stage), folder.stage_reader(stage)
    folds, added = folds_of(lineage), set(lineage.get("adapters", []))
    sums = {name: value for name, value in folder.checksums(stage).items() if name not in added}
    if folds:  # what is folded into was the base model's: merged in the run, it is made again here
        began = folder.checksums(BASE)
        sums |= {name: began[name] for name in folds}
    bits = held["model"].get("frozen_bits")
    model: Any = checkpoint.model(False, held["model"]["seed"])
    own = model.dtype
    wrong = _differing(model, sums, reader, bits)
    if wrong and held["precision"] != "bf16-mixed" and not checkpoint.from_scratch:
        model = checkpoint.model(True, held["model"]["seed"])
        wrong = _differing(model, sums, reader, bits)
    if wrong:
        way_out = (  # new weights are drawn on the device that trains; an export draws them on the CPU
            "Weights made from scratch on a GPU are others here: export a stage that trained all of them."
            if checkpoint.from_scratch
            else "Put the former checkpoint back there (on the hub: that revision)."
        )
        raise UserError(
            f"model.path: {checkpoint.path} is not the model that {folder.path} was begun with: {len(wrong)} tensors "
            f"differ, for example {wrong[0]}. {way_out}"
        )
    return model, own


def _differing(model: Any, sums: Mapping[str, str], reader: PieceReader, bits: int | None) -> list[str]:
    """Names of what the base model and the stage do not share, besides the values of what the stage trained.

    Args:
        model: the base model.
        sums: checksums of what the run held.
        reader: of the stage.
        bits: in which the run held frozen linear layers.
    """
    parameters, trained = dict(model.named_parameters()), set(reader.keys())
    wrong = sums.keys() ^ parameters.keys()
    for name in sums.keys() & parameters.keys():
        value = parameters[name]
        if name in trained:
            same = tuple(value.shape) == reader.shape(name)
        else:  # the run held it as it is, or in fp32: under 32-true, or where a later task trains it
            same = sums[name] in (checksums({name: value})[name], checksums({name: value.float()})[name])
            if not same and bits and value.dim() == 2 and value.shape[1] % BLOCK == 0:
                same = sums[name] == checksums({name: packed(value, bits)})[name]
        if not same:
            wrong.add(name)
    return sorted(wrong)
