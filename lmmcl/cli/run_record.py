"""Keeps in the run folder what a run was started with: its whole config and its environment."""

from __future__ import annotations

import json
import os
import platform
import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from lmmcl.redaction import without_secrets
from lmmcl.run.checkpoint import as_json, naming_disk_errors, write_atomically

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
_PACKAGES = ("lmmcl", "torch", "lightning", "transformers", "safetensors", "numpy", "pillow", "jsonargparse")


class RunRecord(Callback):
    """Writes ``config.yaml``, which ``lmmcl fit --config`` takes again, and ``environment.json``.

    Tokens, keys and passwords of the config, such as a logger's, are left out: who runs it again gives them again.

    Args:
        config: the resolved YAML.
        folder: of the run.
    """

    def __init__(self, config: str, folder: Path) -> None:
        self._config = config
        self._folder = folder

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not in setup: the driver has refused a folder of another run only then.
        if trainer.is_global_zero:
            with naming_disk_errors(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
            now = environment(trainer)
            _tell_changes(self._folder / ENVIRONMENT, now)
            write_atomically(self._folder / CONFIG, _without_secrets(self._config).encode())
            write_atomically(self._folder / ENVIRONMENT, as_json(without_secrets(now)))


def _tell_changes(held: Path, now: Mapping[str, Any]) -> None:
    """Warns where a run goes on with other versions: its end is then to rounding that of one that never stopped."""
    try:
        before = json.loads(held.read_bytes())
        packages = {"python": before["python"], **before["packages"]}
    except (OSError, ValueError, KeyError, TypeError):
        return  # a run that begins; or the file, which is written anew, was damaged
    present = {"python": now["python"], **now["packages"]}
    changed = [
        f"{name} {packages.get(name)}, now {new}"
        for name, new in present.items()
        if packages.get(name) != new
    ]
    if changed:
        warnings.warn(
            f"this run went on to here with {'; '.join(changed)}: it need not end with the bytes of one that kept its "
            "versions.",
            stacklevel=2,
        )


def _without_secrets(config: str) -> str:
    """The YAML without tokens, keys and passwords; the same text where it holds none."""
    given = yaml.safe_load(config)
    clean = without_secrets(given)
    text: str = config if clean == given else yaml.safe_dump(clean, sort_keys=False, allow_unicode=True)
    return text


def environment(trainer: Trainer) -> dict[str, Any]:
    """Versions and machine: what a result may depend on beside the config."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "processes": trainer.world_size,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
