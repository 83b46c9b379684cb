"""Which callbacks of a run fight forgetting, and which only look: told by their classes."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module

_MITIGATION = ("lmmcl.mitigation", "Mitigation")


@cache
def is_mitigation(path: str) -> bool:
    """Whether a callback changes the training: a mitigation of this package or of another one.

    One whose class is not at hand counts as one, so that nothing that may have changed a result goes unnamed. Modules
    of other packages are asked where they are loaded, and never imported because a file of a run names them.

    Args:
        path: module and name of its class, as ``config.json`` has it.
    """
    module, _, name = path.rpartition(".")
    try:
        loaded = import_module(module) if module.startswith("lmmcl.") else sys.modules[module]
        kind = getattr(loaded, name)
    except (ImportError, KeyError, AttributeError):
        return True
    return _MITIGATION in {(base.__module__, base.__qualname__) for base in getattr(kind, "__mro__", ())}
