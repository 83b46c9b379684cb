"""Writes a stage of a run as a Hugging Face folder that answers as the stage does."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from lmmcl.adapters.fold import PlainReader
from lmmcl.errors import UserError
from lmmcl.export.base_model import base_model
from lmmcl.export.hub_folder import SHARD, check_shard_size, describe, generation_of, save
from lmmcl.export.model_card import model_card
from lmmcl.export.rounding import Rounding, fill_
from lmmcl.loading import Checkpoint
from lmmcl.provenance import without_paths
from lmmcl.redaction import redacted, without_secrets
from lmmcl.run.new_folder import check_new_folder, new_folder
from lmmcl.run.run_folder import RunFolder

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_OF_THE_RUN = {"files", "checksums", "adapters", "folds"}
"""What a lineage says of the run's own files and adapters, which an export has no longer."""


def export(
    run: Path,
    stage: int | None,
    to: Path,
    dtype: str | None = None,
    overwrite: bool = False,
    max_shard_size: str = SHARD,
    trust_remote_code: bool = False,
) -> Rounding:
    """Writes model, processor, generation config, model card and where they come from.

    Nothing that is written holds a path of this machine.

    Args:
        run: folder of the run.
        stage: its number, 0 for the base model; None: the last one.
        to: folder to make; it must not hold anything yet, unless it may be overwritten.
        dtype: ``float32``, ``bfloat16`` or ``float16``; None: the checkpoint's own.
        overwrite: replace files of the same names in a folder that holds some, and all weights that lie there.
        max_shard_size: size above which the weights are split into several files, such as ``5GB`` or ``500MB``.
        trust_remote_code: run the Python code that the base model brings, if the run did; whoever made the run does
            not decide that.

    Returns:
        What rounding took.

    Raises:
        UserError: there is no such run or stage, the folder is not empty, cannot be written or holds the run or its
            base model, or the base model is no longer the one that the run began with.
    """
    folder = RunFolder(run)
    checkpoint = _checkpoint(folder, trust_remote_code)
    _refuse_the_run(to, folder)
    # New weights need only the shape: an export may take the place of the weights that lie there.
    needed = {} if checkpoint.from_scratch else {f"model.path {checkpoint.path}": Path(checkpoint.location)}
    check_new_folder(to, needed, overwrite)
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"--dtype must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    check_shard_size(max_shard_size)
    name = folder.find_stage(stage)
    model, own = base_model(checkpoint, folder, name)
    lineage, bits = folder.lineage(name), json.loads(folder.config.read_bytes())["model"].get("frozen_bits")
    reader = PlainReader(folder.stage_reader(name), lineage, dict(model.named_parameters()))
    rounding = fill_(model, reader, own if dtype is None else DTYPES[dtype], bits)
    told = {key: value for key, value in lineage.items() if key not in _OF_THE_RUN}
    told |= {"stage": name, "dtype": rounding.dtype, "from_scratch": checkpoint.from_scratch}
    told["base"] = without_paths(lineage["base"], "path")
    with new_folder(to) as partial:
        save(model, generation_of(checkpoint, model), checkpoint.processor(), partial, max_shard_size)
        describe(partial, without_secrets(told), redacted(model_card(folder, name, str(rounding))))
    return rounding


def _checkpoint(folder: RunFolder, trust_remote_code: bool) -> Checkpoint:
    """What a run was begun with.

    Raises:
        UserError: there is no run, or it needs Python code that nobody allowed here.
    """
    if not folder.config.exists():
        raise UserError(f"{folder.path} holds no run; give the folder that lmmcl fit wrote.")
    settings = json.loads(folder.config.read_bytes())["model"]
    keys = ("path", "revision", "trust_remote_code", "from_scratch")
    checkpoint = Checkpoint(**{key: settings[key] for key in keys})
    if checkpoint.trust_remote_code and not trust_remote_code:
        raise UserError(
            f"{folder.path} was trained with model.trust_remote_code, and to load {checkpoint.path} runs its Python "
            "code here; add --trust_remote_code if you trust it."
        )
    return checkpoint


def _refuse_the_run(to: Path, folder: RunFolder) -> None:
    """Raises UserError where an export would replace files of the run that it is made from."""
    place = to.resolve()
    kept = {folder.last.resolve(), folder.stage("").resolve()} & {place, *place.parents}
    if place == folder.path.resolve() or kept:
        raise UserError(f"--to: {to} holds a run, which would be destroyed; choose another folder.")
