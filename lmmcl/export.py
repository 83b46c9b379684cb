"""Writes a stage of a run as a Hugging Face folder that answers as the stage does."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from lmmcl.checkpoint import as_json, write_atomically
from lmmcl.errors import UserError
from lmmcl.loading import Checkpoint
from lmmcl.run_folder import RunFolder

PROVENANCE = "lmmcl.json"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Rounding:
    """What a dtype left of the change that training made, over all trained values.

    Args:
        dtype: of the export.
        changed: values that training changed in fp32.
        undone: those of them that are the base model's again after rounding.
        lost: norm of what rounding took, over the norm of the change, from 0.
    """

    dtype: str
    changed: int
    undone: int
    lost: float

    @override
    def __str__(self) -> str:
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
    run: Path, stage: int | None, to: Path, dtype: str | None = None, overwrite: bool = False
) -> Rounding:
    """Writes model, processor and where they come from.

    Args:
        run: folder of the run.
        stage: its number, 0 for the base model; None: the last one.
        to: folder to make; it must not hold anything yet, unless it may be overwritten.
        dtype: ``float32``, ``bfloat16`` or ``float16``; None: the checkpoint's own.
        overwrite: replace files of the same names in a folder that holds some.

    Returns:
        What rounding took.

    Raises:
        UserError: there is no such run or stage, or the folder is not empty or cannot be written.
    """
    folder = RunFolder(run)
    if not folder.config.exists():
        raise UserError(f"{run} holds no run; give the folder that lmmcl fit wrote.")
    if to.exists() and (not to.is_dir() or (any(to.iterdir()) and not overwrite)):
        raise UserError(
            f"--to: {to} must be a new or an empty folder; choose another one, or add --overwrite."
        )
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"--dtype must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    name = folder.find_stage(stage)
    settings = json.loads(folder.config.read_bytes())["model"]
    keys = ("path", "revision", "trust_remote_code", "from_scratch")
    checkpoint = Checkpoint(**{key: settings[key] for key in keys})
    model: Any = checkpoint.model(False, settings["seed"])
    target = model.dtype if dtype is None else DTYPES[dtype]
    rounding = _fill(model, folder, name, target)
    partial = to.with_name(to.name + ".part")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.parent.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(partial)
        checkpoint.processor().save_pretrained(partial)
        lineage = {
            key: value for key, value in folder.lineage(name).items() if key not in ("files", "checksums")
        }
        write_atomically(partial / PROVENANCE, as_json({**lineage, "stage": name, "dtype": rounding.dtype}))
        to.mkdir(exist_ok=True)
        for file in sorted(partial.iterdir(), key=lambda path: path.name == PROVENANCE):
            shutil.copymode(partial / PROVENANCE, file)  # safetensors keeps a new file to its owner
            os.replace(file, to / file.name)
        partial.rmdir()
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(
            f"--to: could not write {to} ({error}); make room or choose another folder."
        ) from error
    return rounding


def _fill(model: Any, folder: RunFolder, stage: str, target: torch.dtype) -> Rounding:
    """Brings the whole model to a dtype, and the stage's values into it, rounded once from their masters."""
    reader = folder.stage_reader(stage)
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
