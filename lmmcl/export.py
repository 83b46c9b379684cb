"""Writes a stage of a run as a Hugging Face folder that answers as the stage does."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.utils import GENERATION_CONFIG_NAME
from typing_extensions import override

from lmmcl.adapters.fold import PlainReader, folds_of
from lmmcl.errors import UserError
from lmmcl.frozen_linear import BLOCK, packed
from lmmcl.loading import Checkpoint
from lmmcl.model_card import model_card
from lmmcl.provenance import without_paths
from lmmcl.redaction import redacted, without_secrets
from lmmcl.run.checkpoint import PieceReader, as_json
from lmmcl.run.new_folder import check_new_folder, new_folder
from lmmcl.run.run_folder import RunFolder
from lmmcl.sequence.resume import BASE
from lmmcl.weights import checksums

PROVENANCE = "lmmcl.json"
CARD = "README.md"
SHARD = "5GB"
"""Largest file of weights unless the user says otherwise: what the hub and its mirrors take without trouble."""
_SIZE = re.compile(r"[1-9]\d*(KB|MB|GB|KiB|MiB|GiB)")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Rounding:
    """What a dtype left of the change that training made, over all trained values.

    Args:
        dtype: of the export.
        changed: values that training changed in fp32.
        undone: those of them that are the base model's again after rounding.
        lost: norm of what rounding took, over the norm of the change, from 0.
        frozen_bits: in which the run held frozen weights; the export has the checkpoint's own.
    """

    dtype: str
    changed: int
    undone: int
    lost: float
    frozen_bits: int | None = None

    @override
    def __str__(self) -> str:
        if not self.frozen_bits:
            return self._told()
        return (
            f"{self._told()} The run held frozen weights in {self.frozen_bits} bits; what it learned is added to the "
            "checkpoint's own, and answers may differ from those of the run."
        )

    def _told(self) -> str:
        if not self.changed:
            return f"{self.dtype}: the stage trained nothing, so rounding took nothing."
        share = 100 * self.undone / self.changed
        return (
            f"{self.dtype}: rounding took {100 * self.lost:.2g} % of the change (by norm); {share:.2g} % of "
            f"{self.changed:,} trained values are the base model's again"
            f"{'. --dtype float32 keeps all of it.' if self.lost > 0 else '.'}"
        )


@torch.no_grad()
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
    if not folder.config.exists():
        raise UserError(f"{run} holds no run; give the folder that lmmcl fit wrote.")
    settings = json.loads(folder.config.read_bytes())["model"]
    keys = ("path", "revision", "trust_remote_code", "from_scratch")
    checkpoint = Checkpoint(**{key: settings[key] for key in keys})
    if checkpoint.trust_remote_code and not trust_remote_code:
        raise UserError(
            f"{run} was trained with model.trust_remote_code, and to load {checkpoint.path} runs its Python code here; "
            "add --trust_remote_code if you trust it."
        )
    _refuse_the_run(to, folder)
    # New weights need only the shape: an export may take the place of the weights that lie there.
    needed = {} if checkpoint.from_scratch else {f"model.path {checkpoint.path}": Path(checkpoint.location)}
    check_new_folder(to, needed, overwrite)
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"--dtype must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    if not _SIZE.fullmatch(max_shard_size):
        raise UserError(f"--max_shard_size must be a size such as 5GB or 500MB, got {max_shard_size!r}.")
    name = folder.find_stage(stage)
    model: Any = checkpoint.model(False, settings["seed"])
    target = model.dtype if dtype is None else DTYPES[dtype]
    base = _proved(model, checkpoint, folder, name)
    reader = PlainReader(folder.stage_reader(name), folder.lineage(name), dict(base.named_parameters()))
    model, rounding = base, replace(_fill(base, reader, target), frozen_bits=settings.get("frozen_bits"))
    with new_folder(to) as partial:
        save(model, checkpoint, partial, max_shard_size)
        lineage = {
            key: value
            for key, value in folder.lineage(name).items()
            if key not in ("files", "checksums", "adapters", "folds")
        }
        told = {**lineage, "stage": name, "dtype": rounding.dtype, "from_scratch": checkpoint.from_scratch}
        told["base"] = without_paths(lineage["base"], "path")
        (partial / PROVENANCE).write_bytes(as_json(without_secrets(told)))
        (partial / CARD).write_bytes(redacted(model_card(folder, name, str(rounding))).encode())
    return rounding


def save(model: Any, checkpoint: Checkpoint, to: Path, max_shard_size: str = SHARD) -> None:
    """Writes weights, config, processor, and the checkpoint's generation config with all that it says.

    Args:
        model: of the checkpoint's kind, with the values to write; its own generation config is set aside.
        checkpoint: where processor and generation config come from.
        to: folder, made if missing.
        max_shard_size: as transformers writes sizes.
    """
    try:
        generation = GenerationConfig.from_pretrained(
            checkpoint.location, revision=checkpoint.revision or "main"
        )
    except OSError:  # the checkpoint has none
        generation = model.generation_config
    # Not by save_pretrained of the model: it refuses settings that contradict each other, which checkpoints have
    # (a temperature beside do_sample: false), and a model made from scratch knows only what its config says.
    model.generation_config = GenerationConfig()
    model.save_pretrained(to, max_shard_size=max_shard_size)
    generation.to_json_file(to / GENERATION_CONFIG_NAME)
    checkpoint.processor().save_pretrained(to)


def _refuse_the_run(to: Path, folder: RunFolder) -> None:
    """Raises UserError where an export would replace files of the run that it is made from."""
    place = to.resolve()
    kept = {folder.last.resolve(), folder.stage("").resolve()} & {place, *place.parents}
    if place == folder.path.resolve() or kept:
        raise UserError(f"--to: {to} holds a run, which would be destroyed; choose another folder.")


def _proved(model: Any, checkpoint: Checkpoint, folder: RunFolder, stage: str) -> Any:
    """The base model, whose tensors are proved to be those that the run held and the stage did not train.

    It is loaded again in fp32 where the run held values that the checkpoint's own dtype rounds.

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
    return model


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


def _fill(model: Any, reader: PlainReader, target: torch.dtype) -> Rounding:
    """Brings the whole model to a dtype, and the stage's values into it, rounded once from their masters."""
    parameters = dict(model.named_parameters())
    base = {name: parameters[name].detach().clone() for name in reader.keys()}
    model.to(target)
    changed = undone = 0
    lost = change = torch.zeros((), dtype=torch.float64)
    for name in sorted(reader.keys()):
        master, before = reader.read(name).float(), base.pop(name)
        rounded = master.to(target)
        parameters[name].copy_(rounded)
        moved = master != before.float()
        changed += int(moved.sum())
        undone += int((moved & (rounded == before.to(target))).sum())
        lost = lost + _square(rounded.float() - master)
        change = change + _square(master - before.float())
    share = float((lost / change).sqrt()) if changed else 0.0
    return Rounding(str(target).removeprefix("torch."), changed, undone, share)


def _square(value: Tensor) -> Tensor:
    return value.double().square().sum()
