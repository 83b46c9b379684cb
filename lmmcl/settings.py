"""The settings of a model, checked before anything is loaded."""

from collections.abc import Mapping
from typing import Any

from lmmcl.errors import UserError
from lmmcl.optimizer import SCHEDULES


def check_settings(settings: Mapping[str, Any]) -> None:
    """Checks the arguments of `lmmcl.model.ContinualLMM`.

    Raises:
        UserError: one is out of its range; names the key, the value and the range.
    """
    lr, warmup, every = (settings[key] for key in ("lr", "warmup_ratio", "checkpoint_every_n_steps"))
    if not lr > 0:
        raise UserError(f"model.lr must be above 0, got {lr}.")
    if not 0 <= warmup < 1:
        raise UserError(f"model.warmup_ratio must lie in [0, 1), got {warmup}.")
    if every < 1:
        raise UserError(f"model.checkpoint_every_n_steps must be at least 1, got {every}.")
    if settings["schedule"] not in SCHEDULES:
        raise UserError(
            f"model.schedule must be one of {', '.join(SCHEDULES)}, got {settings['schedule']!r}."
        )
