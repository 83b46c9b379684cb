"""What is proven after every stage: frozen tensors are unchanged, and all processes hold the same weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch.distributed as dist

from lmmcl.weights import fingerprint


def prove_frozen(before: Mapping[str, str], now: Mapping[str, str], trained: Collection[str]) -> None:
    """Compares the checksums of what the recipe froze.

    Args:
        before: checksums at the previous stage.
        now: checksums of the same tensors.
        trained: names that may have changed.

    Raises:
        RuntimeError: a frozen tensor changed.
    """
    changed = [name for name, value in now.items() if name not in trained and before[name] != value]
    if changed:
        raise RuntimeError(
            f"{len(changed)} tensors changed that the recipe froze, for example {changed[0]}. A callback or a merge "
            "wrote into them; the stage was not written."
        )


def prove_equal(now: Mapping[str, str]) -> None:
    """Compares the checksums of all processes; collective.

    Raises:
        RuntimeError: on every process, if they differ (an optimizer or callback that acted on one of them only).
    """
    if not dist.is_initialized():
        return
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, fingerprint(now))
    if len(set(everyone)) > 1:
        raise RuntimeError(f"the processes hold different weights ({everyone}); the stage was not written.")
