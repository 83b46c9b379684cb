"""The weights of a Hugging Face folder, read tensor by tensor and never as a whole model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmmcl.embedded import location
from lmmcl.errors import UserError
from lmmcl.merge.tensor_file import Entry, entries

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
ADAPTER = "adapter_config.json"
_FETCHED = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "*.py"]


class ModelFolder:
    """Tensors of a model by the keys under which its files hold them; nothing is read before it is asked for.

    Args:
        name: as the user gave it, for messages.
        folder: where it lies.
        files: its tensors by key, in the order of its files.
    """

    def __init__(self, name: str, folder: Path, files: dict[str, Entry]) -> None:
        self.name = name
        self.folder = folder
        self._entries = files

    def keys(self) -> list[str]:
        """All keys, file by file and in each file's order."""
        return list(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def entry(self, key: str) -> Entry:
        """Where a tensor lies."""
        return self._entries[key]

    def file(self, key: str) -> str:
        """Name of the file that holds a tensor."""
        return self._entries[key].path.name

    def dtype(self, key: str) -> torch.dtype:
        """Dtype of a tensor as it is stored."""
        return self._entries[key].dtype

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self._entries[key].shape

    def read(self, key: str) -> Tensor:
        """A whole tensor on the CPU, in its stored dtype."""
        return self.part(key).reshape(self.shape(key))

    def part(self, key: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Values ``start`` to ``stop`` of a flattened tensor, (stop − start,), on the CPU in its stored dtype."""
        return self._entries[key].read(start, stop)

    def config(self) -> dict[str, Any]:
        """What its config.json says."""
        path = self.folder / "config.json"
        try:
            config = json.loads(path.read_text())
        except FileNotFoundError as error:
            raise UserError(
                f"{self.name} has no config.json; give a folder that transformers can load."
            ) from error
        assert isinstance(config, dict)
        return config


def open_model(path: str | Path) -> ModelFolder:
    """The weights of a folder or of a model on the hub.

    Args:
        path: a folder that ``save_pretrained`` wrote, a hub id, or an embedded checkpoint such as ``mini``. A model of
            the hub is taken from the local cache, and fetched into it where it is not whole there.

    Raises:
        UserError: it is not there, is no model with safetensors weights, or its files are not whole.
    """
    name = str(path)
    folder = located(name)
    if (folder / "stages").is_dir():
        raise UserError(
            f"{name} is the folder of a run: export the stage that you mean (lmmcl export {name} --stage K --to DIR) "
            "and give that folder."
        )
    if (folder / ADAPTER).exists() and not (folder / SINGLE).exists() and not (folder / INDEX).exists():
        raise UserError(f"{name} is an adapter, not a model: its base model must come first.")
    return ModelFolder(name, folder, _tensors(name, folder))


def located(name: str) -> Path:
    """The folder of a model or adapter: itself, an embedded checkpoint's, or a hub id's snapshot.

    Raises:
        UserError: there is no such folder, and no such model on the hub.
    """
    folder = Path(location(name))
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=_FETCHED))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{name}: there is no such folder, and as a hub id: {reason}") from error


def _tensors(name: str, folder: Path) -> dict[str, Entry]:
    index, single = folder / INDEX, folder / SINGLE
    if single.exists():  # transformers prefers it to an index, too
        return entries(single)
    if not index.exists():
        others = sorted(path.name for path in (*folder.glob("*.bin"), *folder.glob("*.pt*")))
        held = (
            f"it holds {others[0]}, which is a pickle and not read: convert it" if others else "it holds none"
        )
        raise UserError(f"{name} must hold {SINGLE} or {INDEX}; {held}.")
    try:
        placed: dict[str, str] = dict(json.loads(index.read_bytes())["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{name}: its {INDEX} is damaged ({error}). Fetch it again.") from error
    files: dict[str, Entry] = {}
    for file in sorted(set(placed.values())):
        if Path(file).name != file or not (folder / file).exists():
            raise UserError(f"{name}: its {INDEX} names {file}, which is not in the folder. Fetch it again.")
        files |= entries(folder / file)
    if odd := sorted(files.keys() ^ placed.keys()):
        there, not_there = (INDEX, "files") if odd[0] in placed else ("files", INDEX)
        raise UserError(f"{name}: {odd[0]} is in its {there} and not in its {not_there}. Fetch it again.")
    return files
