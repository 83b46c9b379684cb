"""A pickle that leaves a file behind when it is loaded: what a stranger's weights or rows may hold."""

import pickle
from pathlib import Path

import torch
from typing_extensions import override


class Trap:
    """Makes a file when it is unpickled.

    Args:
        sprung: the file.
    """

    def __init__(self, sprung: Path) -> None:
        self._sprung = sprung

    @override
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path(self._sprung),)  # type: ignore[return-value]  # what pickle calls, and with what


def trap(sprung: Path) -> bytes:
    """The pickle, as it may stand anywhere."""
    return pickle.dumps(Trap(sprung))


def trapped_weights(file: Path, sprung: Path) -> None:
    """Writes it as ``torch.save`` writes weights."""
    torch.save({"weight": Trap(sprung)}, file)
