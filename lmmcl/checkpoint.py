"""One checkpoint format for all strategies: tensor pieces per process, completed by a manifest written last."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from lmmcl.agreement import agreed
from lmmcl.errors import UserError
from lmmcl.weights import local, placement

MANIFEST = "manifest.json"


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


class naming_disk_errors:  # noqa: N801 - a context manager reads as a verb
    """Turns a full or read-only disk into one error that names the path and the way out."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (OSError, SafetensorError)) and not isinstance(error, FileNotFoundError):
            free = shutil.disk_usage(self._path.parent if self._path.parent.exists() else "/").free
            raise UserError(
                f"run: could not write {self._path} ({error}; {free / 1e9:.2f} GB free). "
                "Make room or choose another run folder, then go on with --ckpt_path last; nothing whole was lost."
            ) from error


def as_json(value: Any) -> bytes:
    """Deterministic, readable JSON."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Writes this process's parts of tensors into one safetensors file.

    Returns:
        what the manifest says of the file: size, SHA-256 and where each piece lies in its whole tensor.
    """
    pieces, parts = {}, {}
    for key, tensor in tensors.items():
        shape, offset = placement(tensor)
        if 0 in shape and 0 not in tensor.shape:
            continue
        parts[key] = local(tensor).detach().cpu().contiguous()
        pieces[key] = {"whole": list(tensor.shape), "offset": list(offset), "shape": list(shape)}
    # Tensors that share memory (one anchor, two users) are written by name, each in full.
    seen: set[int] = set()
    for key, part in parts.items():
        if part.data_ptr() in seen:
            parts[key] = part.clone()
        seen.add(part.data_ptr())
    with naming_disk_errors(path):
        path.touch()
        mode = path.stat().st_mode
        save_file(parts, path)
        path.chmod(mode)  # safetensors makes a file that is its owner's alone
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "sha256": digest(path), "pieces": pieces}


def save(folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Saves a checkpoint from all processes; collective.

    Sharded tensors are written by the processes that hold them, replicated ones by the first. Until the manifest has
    its name the folder does not count.

    Args:
        folder: ``last/<position>``; one of that name that is not whole is replaced.
        tensors: by key, sharded or not.
        state: plain Python that JSON can hold.
    """
    rank = dist.get_rank() if dist.is_initialized() else 0
    with agreed(), naming_disk_errors(folder):
        if rank == 0:
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
    name = f"process-{rank:05d}.safetensors"
    mine = {key: tensor for key, tensor in tensors.items() if rank == 0 or isinstance(tensor, DTensor)}
    written = {}
    with agreed():
        written = {name: write_tensors(folder / name, mine)}
    gathered: list[Any] = [written]
    if dist.is_initialized():
        gathered = [None] * dist.get_world_size()
        dist.all_gather_object(gathered, written)
    with agreed():
        if rank == 0:
            files = {name: entry for part in gathered for name, entry in part.items()}
            write_atomically(folder / MANIFEST, as_json({"files": files, "state": state}))


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk, readable by any strategy and number of processes."""

    path: Path

    def _manifest(self) -> dict[str, Any]:
        try:
            manifest = json.loads((self.path / MANIFEST).read_text())
        except FileNotFoundError as error:
            raise BrokenFileError(f"{self.path} was not finished (no {MANIFEST})") from error
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise BrokenFileError(f"{self.path / MANIFEST} is damaged ({error})") from error
        assert isinstance(manifest, dict)
        return manifest

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


def verify_file(path: Path, entry: Mapping[str, Any]) -> None:
    """Raises BrokenFileError unless a file has the size and SHA-256 its manifest says."""
    if not path.exists():
        raise BrokenFileError(f"{path} is missing")
    if path.stat().st_size != entry["bytes"]:
        raise BrokenFileError(f"{path} has {path.stat().st_size} of {entry['bytes']} bytes")
    if digest(path) != entry["sha256"]:
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
