"""One checkpoint format for all strategies: tensor pieces per process, completed by a manifest written last."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from lmmcl.errors import UserError
from lmmcl.run.readable_json import as_json as as_json
from lmmcl.tensor_layout import header, memory_of
from lmmcl.weights import local, placement

MANIFEST = "manifest.json"
_NAME = re.compile(r"\d+(-\d+)*(-[a-z]+)?")
"""Of a checkpoint: numbers, and the word of its phase; see `lmmcl.position.Position.name`."""
_AT_ONCE = 1 << 24
"""Bytes that are hashed and then written."""


class BrokenFileError(Exception):
    """A file of a run folder is missing, cut short or changed; the message names it."""


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a small file so that a kill leaves the old one or the new one, never a part."""
    temporary = path.with_name(path.name + ".part")
    with naming_disk_errors(path), open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Puts the names in a folder on disk, so that a loss of power does not undo a rename."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class naming_disk_errors:  # noqa: N801 - a context manager reads as a verb
    """Turns a full or read-only disk into one error that names the path and the way out."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            free = shutil.disk_usage(self._path.parent if self._path.parent.exists() else "/").free
            raise UserError(
                f"run: could not write {self._path} ({error}; {free / 1e9:.2f} GB free). "
                "Make room or choose another run folder, then go on with --ckpt_path last; nothing whole was lost."
            ) from error


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class TensorFile:
    """What one process writes of tensors: a safetensors file, and where each of its parts lies in its whole tensor.

    Args:
        head: first bytes of the file.
        parts: contiguous values that follow, in the file's order, on whatever device.
        pieces: by key, the shape of the ``whole`` tensor, and ``offset`` and ``shape`` of the part.
    """

    head: bytes
    parts: Sequence[Tensor]
    pieces: Mapping[str, Mapping[str, list[int]]]

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> TensorFile:
        """This process's parts of some tensors; a shard without a value is left out."""
        parts, pieces = {}, {}
        # Wide dtypes first, as safetensors itself does: every tensor begins aligned.
        for key in sorted(tensors, key=lambda key: (-tensors[key].element_size(), key)):
            tensor = tensors[key]
            shape, offset = placement(tensor)
            if 0 in shape and 0 not in tensor.shape:
                continue
            parts[key] = local(tensor).detach().contiguous()
            pieces[key] = {"whole": list(tensor.shape), "offset": list(offset), "shape": list(shape)}
        head = header({key: (part.dtype, tuple(part.shape)) for key, part in parts.items()})
        return cls(head, list(parts.values()), pieces)

    @property
    def size(self) -> int:
        """Bytes of all values."""
        return sum(part.numel() * part.element_size() for part in self.parts)

    def write(self, path: Path) -> dict[str, Any]:
        """Writes the file, which is on disk when this returns, and hashes what it writes on the way.

        Returns:
            what a manifest says of the file: size, SHA-256 and pieces.
        """
        digest, size = hashlib.sha256(), 0
        with naming_disk_errors(path), open(path, "wb", buffering=0) as file:
            values = (memory_of(part.cpu()) for part in self.parts)
            for data in chain([memoryview(self.head)], values):
                size += len(data)
                for start in range(0, len(data), _AT_ONCE):
                    some = data[start : start + _AT_ONCE]
                    digest.update(some)
                    while some:
                        some = some[file.write(some) :]
            os.fsync(file.fileno())
        return {"bytes": size, "sha256": digest.hexdigest(), "pieces": self.pieces}


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Writes this process's parts of tensors into one safetensors file; see `TensorFile.write`."""
    return TensorFile.of(tensors).write(path)


def write_manifest(folder: Path, files: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Makes a checkpoint of the files in a folder: the last thing that a save does.

    Args:
        folder: ``last/<position>``.
        files: by name, what `TensorFile.write` returned.
        state: plain Python that JSON can hold.
    """
    held = {"files": files, "state": state}
    write_atomically(
        folder / MANIFEST, as_json({**held, "sha256": hashlib.sha256(as_json(held)).hexdigest()})
    )


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk, readable by any strategy and number of processes."""

    path: Path

    def _manifest(self) -> dict[str, Any]:
        path = self.path / MANIFEST
        try:
            manifest = json.loads(path.read_bytes())
            held = {"files": manifest["files"], "state": manifest["state"]}
            whole = manifest["sha256"] == hashlib.sha256(as_json(held)).hexdigest()
        except FileNotFoundError as error:
            raise BrokenFileError(f"{self.path} was not finished (no {MANIFEST})") from error
        except (ValueError, KeyError, TypeError) as error:
            raise BrokenFileError(f"{path} is damaged ({type(error).__name__}: {error})") from error
        if not whole:
            raise BrokenFileError(f"{path} is damaged (its SHA-256 differs from the one it holds)")
        return held

    @property
    def finished(self) -> bool:
        """Whether its manifest was written, which is the last thing a save does."""
        return (self.path / MANIFEST).exists()

    def verify(self) -> None:
        """Raises BrokenFileError, naming the file, unless every file is there, whole and unchanged."""
        for name, entry in self._manifest()["files"].items():
            verify_file(self.path / name, entry)

    @property
    def state(self) -> dict[str, Any]:
        """The plain state it was saved with."""
        state = self._manifest()["state"]
        assert isinstance(state, dict)
        return state

    def reader(self) -> PieceReader:
        """Access to its tensors."""
        return PieceReader(self.path, self._manifest()["files"])


def saved(last: Path) -> list[Path]:
    """The folders of checkpoints, finished or not, the newest first; what else lies there, a copy say, is not ours."""
    if not last.exists():
        return []
    return sorted(
        (path for path in last.iterdir() if path.is_dir() and _NAME.fullmatch(path.name)), reverse=True
    )


def verify_file(path: Path, entry: Mapping[str, Any], read: bool = True) -> None:
    """Raises BrokenFileError unless a file has the size its manifest says and, if it is to be read, the SHA-256."""
    if not path.exists():
        raise BrokenFileError(f"{path} is missing")
    if path.stat().st_size != entry["bytes"]:
        raise BrokenFileError(f"{path} has {path.stat().st_size} of {entry['bytes']} bytes")
    if read and digest(path) != entry["sha256"]:
        raise BrokenFileError(f"{path} is damaged (its SHA-256 differs from the manifest's)")


class PieceReader:
    """Assembles tensors, or any box of them, from the pieces that processes wrote."""

    def __init__(self, folder: Path, files: Mapping[str, Any]) -> None:
        self._pieces: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
        for name, entry in files.items():
            for key, piece in entry["pieces"].items():
                self._pieces.setdefault(key, []).append((folder / name, piece))

    def keys(self) -> set[str]:
        """All keys."""
        return set(self._pieces)

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a whole tensor."""
        return tuple(self._pieces[key][0][1]["whole"])

    def dtype(self, key: str) -> torch.dtype:
        """Dtype of a whole tensor."""
        path, piece = self._pieces[key][0]
        with safe_open(path, "pt") as file:
            part = file.get_slice(key)[:0] if piece["shape"] else file.get_tensor(key)
        assert isinstance(part, Tensor)
        return part.dtype

    @torch.no_grad()
    def read_into(self, key: str, target: Tensor) -> None:
        """Fills a tensor, or this process's shard of it, in place."""
        shape, offset = placement(target)
        self._fill(key, local(target), shape, offset)

    @torch.no_grad()
    def read(self, key: str) -> Tensor:
        """A whole tensor on the CPU, in the dtype it was saved in."""
        shape = self.shape(key)
        whole = torch.empty(shape, dtype=self.dtype(key))
        self._fill(key, whole, shape, (0,) * len(shape))
        return whole

    def _fill(self, key: str, target: Tensor, shape: tuple[int, ...], offset: tuple[int, ...]) -> None:
        filled = 0
        for path, piece in self._pieces[key]:
            begin = [max(a, b) for a, b in zip(offset, piece["offset"], strict=True)]
            end = [
                min(a + n, b + m)
                for a, n, b, m in zip(offset, shape, piece["offset"], piece["shape"], strict=True)
            ]
            if any(b >= e for b, e in zip(begin, end, strict=True)):
                continue
            source = tuple(slice(b - o, e - o) for b, e, o in zip(begin, end, piece["offset"], strict=True))
            place = tuple(slice(b - o, e - o) for b, e, o in zip(begin, end, offset, strict=True))
            with safe_open(path, "pt") as file:
                values = file.get_slice(key)[source] if source else file.get_tensor(key)
            target[place].copy_(values)
            filled += values.numel()
        if filled != target.numel():
            raise BrokenFileError(f"{key}: the files hold {filled} of {target.numel()} values")
