"""What decides the result of a run: kept in the run folder, and compared when a run is resumed."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import Any

from lightning.pytorch import Callback

from lmmcl.mitigation import StageCallback
from lmmcl.model import ContinualLMM

_FREE = {"run", "resume", "checkpoint_every_n_steps", "activation_checkpointing", "compile", "liger"}
"""Arguments of the model that may change on a resume: they change no result, or its rounding at most."""
_PLAIN = (int, float, str, bool, list, tuple, dict, set, frozenset, PurePath, type(None))


def decisive_config(module: ContinualLMM) -> dict[str, Any]:
    """Everything that decides the result of a run, as plain values.

    Args:
        module: of the running trainer.

    Returns:
        Settings of the model, the data (with a fingerprint of the rows), the callbacks in their order, and of the
        trainer what enters an update. What may change on a resume is left out.
    """
    trainer = module.trainer
    return {
        "model": {key: value for key, value in module.hparams.items() if key not in _FREE},
        "data": module.data.fingerprint(),
        "callbacks": [_settings(callback) for callback in module.stage_callbacks],
        "precision": str(trainer.precision),
        "gradient_clip_val": trainer.gradient_clip_val,
        "gradient_clip_algorithm": trainer.gradient_clip_algorithm,
    }


def _settings(callback: Callback) -> list[Any]:
    """A callback's class and its plain public attributes; tensors are its state, not its settings."""
    kind = type(callback)
    passed_over = {"tensors", *(callback.may_change if isinstance(callback, StageCallback) else ())}
    plain = {
        key: _plain(value)
        for key, value in vars(callback).items()
        if isinstance(value, _PLAIN) and not key.startswith("_") and key not in passed_over
    }
    return [f"{kind.__module__}.{kind.__qualname__}", plain]


def _plain(value: Any) -> Any:
    """A setting as JSON holds it, whatever a callback of the user's keeps: paths, sets, what is not finite."""
    match value:
        case dict():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case set() | frozenset():
            return sorted((_plain(inner) for inner in value), key=repr)
        case float() if not math.isfinite(value):
            return str(value)
        case bool() | int() | float() | str() | None:
            return value
        case PurePath():
            return str(value)
        case _:
            return f"{type(value).__module__}.{type(value).__qualname__}"
