"""Makes a folder in one step, and touches nothing else: what is not whole yet stands under a name of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors import SafetensorError

from lmmcl.errors import UserError


def check_new_folder(to: Path, inputs: Mapping[str, Path], overwrite: bool | None) -> None:
    """Refuses to write over anything, and over what is read in any case.

    Args:
        to: folder to make.
        inputs: folders that are read, by what the user calls them.
        overwrite: allow a folder that holds something; None: the command has no such option.

    Raises:
        UserError: see above.
    """
    place = to.resolve()
    for name, folder in inputs.items():
        source = folder.resolve()
        if place == source or source in place.parents or place in source.parents:
            raise UserError(f"--to: {to} and {name}, which is read, hold one another; choose another folder.")
    if (place / "stages").exists():
        raise UserError(f"--to: {to} holds a run, which would be destroyed; choose another folder.")
    if place.exists() and (not place.is_dir() or (any(place.iterdir()) and not overwrite)):
        more = ", or add --overwrite" if overwrite is not None and place.is_dir() else ""
        raise UserError(f"--to: {to} must be a new or an empty folder; choose another one{more}.")


@contextmanager
def new_folder(to: Path) -> Iterator[Path]:
    """Gives a folder to fill, which becomes ``to`` at the end, and is gone without a trace if that is not reached.

    A new folder is filled beside its place and then renamed. One that is there is filled within, because it may be a
    mount, or where the user's shell stands: files of the same names are replaced, weights last, and weights that lie
    there go, of which a loader would prefer the one file of an older model to new shards.

    Args:
        to: folder to make, which `check_new_folder` let pass.

    Raises:
        UserError: it cannot be written.
    """
    place = to.resolve()
    there = place.is_dir()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(
            prefix=f".{place.name}-", dir=place if there else place.parent, ignore_cleanup_errors=True
        ) as room:
            whole = Path(room) / "whole"  # which others may read, as they may not a temporary folder
            whole.mkdir()
            yield whole
            _let_read(whole, Path(room) / "mode")
            if there:
                _move_into(whole, place)
            else:
                os.replace(whole, place)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"--to: could not write {to} ({error}); make room or choose another folder."
        ) from error


def _let_read(folder: Path, sample: Path) -> None:
    """Gives all files the mode of a new one: safetensors keeps its own to their owner."""
    sample.touch()
    for path in folder.rglob("*"):
        if path.is_file():
            shutil.copymode(sample, path)


def _move_into(whole: Path, place: Path) -> None:
    files = [path.relative_to(whole) for path in whole.rglob("*") if path.is_file()]
    for stale in place.glob("model*.safetensors*"):
        if Path(stale.name) not in files:
            stale.unlink()
    for file in sorted(files, key=lambda path: (path.suffix == ".safetensors", path)):
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        os.replace(whole / file, place / file)
