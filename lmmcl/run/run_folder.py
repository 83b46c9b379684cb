"""The folder of one run: what lies where, when it may be resumed, and what its stages hold."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from typing_extensions import override

from lmmcl.errors import UserError
from lmmcl.redaction import MARK, without_secrets
from lmmcl.run.checkpoint import (
    BrokenFileError,
    PieceReader,
    as_json,
    naming_disk_errors,
    saved,
    sync_folder,
    verify_file,
    write_atomically,
    write_tensors,
)

WEIGHTS = "weights.safetensors"
LINEAGE = "lineage.json"
_STAGE = re.compile(r"(\d{2,})-.+")


@dataclass(frozen=True)
class RunFolder:
    """Paths and stage files of a run.

    ``config.json`` holds what decides the result, ``last/`` the newest checkpoints, ``stages/NN-task/`` the trained
    tensors after each task with their lineage, ``predictions/`` every answer, ``matrix.json`` and ``.csv`` the scores,
    ``logs/`` losses by step.
    """

    path: Path

    @property
    def config(self) -> Path:
        """What decides the result of the run."""
        return self.path / "config.json"

    @property
    def last(self) -> Path:
        """Folder of the newest checkpoints."""
        return self.path / "last"

    @property
    def matrix(self) -> Path:
        """The matrix of scores."""
        return self.path / "matrix.json"

    @property
    def predictions(self) -> Path:
        """Folder of all answers, by stage."""
        return self.path / "predictions"

    @property
    def logs(self) -> Path:
        """Folder of the logs."""
        return self.path / "logs"

    def stage(self, name: str) -> Path:
        """Folder of a stage."""
        return self.path / "stages" / name

    def check(self, config: Mapping[str, Any], resume: bool) -> None:
        """Refuses to mix two runs in one folder.

        Raises:
            UserError: the folder holds a run and ``resume`` is False; or it is to be resumed and holds none, or one
                with another config; or it holds a run of which nobody can tell what it is.
        """
        if not self.config.exists():
            if self.stages() or saved(self.last):
                raise UserError(
                    f"run: {self.path} holds stages or checkpoints of a run, but not its {self.config.name}, so that "
                    "nobody can tell with what it was begun. Put the file back, or choose another folder with --run."
                )
            if resume:
                raise UserError(
                    f"--ckpt_path last: {self.path} holds no run to go on with. Leave the flag out to start one."
                )
            return
        if not resume:
            raise UserError(
                f"run: {self.path} already holds a run. Go on with it by --ckpt_path last, or choose another folder "
                "with --run."
            )
        try:
            before = json.loads(self.config.read_bytes())
        except ValueError as error:
            raise UserError(
                f"--ckpt_path last: {self.config} is damaged ({error}), so that nobody can tell whether the run is "
                "begun with this config. Put the file back, or choose another folder with --run to start afresh."
            ) from error
        now = json.loads(as_json(without_secrets(config)))
        changed = [f"{key} was {old!r}, is {new!r}" for key, old, new in _differences(before, now)]
        if changed:
            raise UserError(
                f"--ckpt_path last: {self.path} was begun with another config: {'; '.join(changed)}. "
                "Restore these keys, or choose another folder with --run to start afresh."
            )

    def begin(self, config: Mapping[str, Any], write: bool) -> None:
        """Makes the folder of a new run; ``write`` is False on all processes but the first."""
        if write:
            with naming_disk_errors(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.config, as_json(without_secrets(config)))

    def write_stage(self, name: str, tensors: Mapping[str, Tensor], lineage: Mapping[str, Any]) -> None:
        """Writes a stage in one step; call it on one process with whole tensors.

        One that is there and the same stays: a checkpoint may refer to it already.
        """
        final = self.stage(name)
        partial = final.with_name(f".{final.name}")
        with naming_disk_errors(final):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            files = {WEIGHTS: write_tensors(partial / WEIGHTS, tensors)}
            told = as_json({**lineage, "files": files})
            write_atomically(partial / LINEAGE, told)
            if self._holds(name, told):
                shutil.rmtree(partial)
                return
            shutil.rmtree(final, ignore_errors=True)
            os.replace(partial, final)
            sync_folder(final.parent)

    def _holds(self, name: str, lineage: bytes) -> bool:
        try:
            self.lineage(name)
            return (self.stage(name) / LINEAGE).read_bytes() == lineage
        except BrokenFileError:
            return False

    def read_lineage(self, name: str) -> tuple[dict[str, Any], str]:
        """A stage's lineage and the SHA-256 of its file; what it says of other files is not looked at.

        Raises:
            BrokenFileError: it is missing or damaged.
        """
        path = self.stage(name) / LINEAGE
        try:
            data = path.read_bytes()
            lineage: dict[str, Any] = json.loads(data)
            if not all(isinstance(lineage[key], dict) for key in ("checksums", "files")):
                raise ValueError("it does not say what the stage holds")
        except FileNotFoundError as error:
            raise BrokenFileError(f"{path} is missing") from error
        except (ValueError, KeyError, TypeError) as error:
            raise BrokenFileError(f"{path} is damaged ({error})") from error
        return lineage, hashlib.sha256(data).hexdigest()

    def lineage(self, name: str) -> dict[str, Any]:
        """A stage's lineage, its files verified.

        Raises:
            BrokenFileError: a file of the stage is missing or damaged.
        """
        lineage, _ = self.read_lineage(name)
        for file, entry in lineage["files"].items():
            verify_file(self.stage(name) / file, entry)
        return lineage

    def stage_reader(self, name: str) -> PieceReader:
        """Access to a stage's tensors."""
        return PieceReader(self.stage(name), self.lineage(name)["files"])

    def checksums(self, name: str) -> dict[str, str]:
        """Checksums of all tensors of the model at a stage."""
        sums: dict[str, str] = self.read_lineage(name)[0]["checksums"]
        return sums

    def find_stage(self, index: int | None = None) -> str:
        """The name of a written stage by its number, 0 for the base model; None: the last one.

        Raises:
            UserError: there is none.
        """
        names = self.stages()
        found = [name for name in names if index is None or int(name.partition("-")[0]) == index]
        if not found:
            held = f"it holds {', '.join(names)}" if names else "it holds no stage"
            raise UserError(
                f"--stage: {self.path} must hold stage {'1' if index is None else index}, {held}."
            )
        return found[-1]

    def stages(self) -> list[str]:
        """Names of the written stages, in order."""
        folder = self.path / "stages"
        if not folder.exists():
            return []
        numbers = {
            path.name: int(found[1])
            for path in folder.iterdir()
            if (found := _STAGE.fullmatch(path.name)) and (path / LINEAGE).exists()  # not somebody's copy
        }
        return sorted(numbers, key=lambda name: (numbers[name], name))


def _differences(before: Any, now: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    """What differs, each by its key; lists of tasks and callbacks are compared by their names first."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        return [d for k in keys for d in _differences(before.get(k), now.get(k), f"{key}.{k}".lstrip("."))]
    one, other = _by_name(before), _by_name(now)
    if one is not None and other is not None:
        return _differences(one, other, key) if [*one] == [*other] else [(key, _Names(one), _Names(other))]
    if before != now and not (isinstance(before, str) and MARK in before):  # a secret decides nothing
        return [(key, before, now)]
    return []


def _by_name(entries: Any) -> dict[str, Any] | None:
    """The tasks or callbacks of a list by their names; None: it is another list, or no list."""
    if not isinstance(entries, list):
        return None
    named: dict[str, Any] = {}
    for entry in entries:
        match entry:
            case {"name": str(name)}:
                named[name] = entry
            case [str(kind), {**settings}]:
                named[str(settings.get("name", kind.rpartition(".")[2]))] = {"class": kind, **settings}
            case _:
                return None
    return named if len(named) == len(entries) else None


class _Names(list[str]):
    """Names as an error shows them."""

    @override
    def __repr__(self) -> str:
        return f"[{', '.join(self)}]"
