"""Checkpoints that ship with the package."""

from importlib.resources import files
from pathlib import Path

EMBEDDED = {"mini": "mini"}
"""By the name that a YAML may give as ``model.path``."""


def location(path: str) -> str:
    """Where a checkpoint lies: a path or hub id as it is, an embedded one in the package."""
    if path in EMBEDDED and not Path(path).exists():
        return str(files("lmmcl") / "assets" / EMBEDDED[path])
    return path
