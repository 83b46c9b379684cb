"""The settings of a model, checked before anything is loaded."""

import math
from collections.abc import Mapping
from typing import Any

from lmmcl.errors import UserError
from lmmcl.optim.optimizer import SCHEDULES
from lmmcl.optim.trained_bytes import OPTIMIZERS


def check_settings(settings: Mapping[str, Any]) -> None:
    """Checks the arguments of `lmmcl.model.ContinualLMM`.

    Raises:
        UserError: one is out of its range; names the key, the value and the range.
    """
    lr, warmup, every = (settings[key] for key in ("lr", "warmup_ratio", "checkpoint_every_n_steps"))
    if not 0 < lr < math.inf:
        raise UserError(f"model.lr must be above 0, got {lr}.")
    if not 0 <= settings["weight_decay"] < math.inf:
        raise UserError(f"model.weight_decay must be a number from 0, got {settings['weight_decay']}.")
    if len(settings["betas"]) != 2 or not all(0 <= beta < 1 for beta in settings["betas"]):
        raise UserError(f"model.betas must be two numbers in [0, 1), got {settings['betas']}.")
    if settings["seed"] < 0:
        raise UserError(f"seed must be a whole number from 0, got {settings['seed']}.")
    if settings["max_length"] is not None and settings["max_length"] < 1:
        raise UserError(f"model.max_length must be at least 1, got {settings['max_length']}.")
    if not 0 <= warmup < 1:
        raise UserError(f"model.warmup_ratio must lie in [0, 1), got {warmup}.")
    if every < 1:
        raise UserError(f"model.checkpoint_every_n_steps must be at least 1, got {every}.")
    for key, known in (("optimizer", OPTIMIZERS), ("train_dtype", ("fp32", "bf16"))):
        if settings[key] not in known:
            raise UserError(f"model.{key} must be one of {', '.join(known)}, got {settings[key]!r}.")
    if settings["rounding"] not in (None, "stochastic", "kahan"):
        raise UserError(
            f"model.rounding must be stochastic or kahan, got {settings['rounding']!r}: rounding to nearest swallows "
            "most updates of a small learning rate."
        )
    if settings["frozen_bits"] not in (None, 8, 4):
        raise UserError(f"model.frozen_bits must be 8 or 4, got {settings['frozen_bits']!r}.")
    if settings["rounding"] is not None and settings["train_dtype"] == "fp32":
        raise UserError("model.rounding is for model.train_dtype: bf16; fp32 needs none. Leave it out.")
    if settings["train_dtype"] == "bf16" and settings["from_scratch"]:
        raise UserError(
            "model.train_dtype: bf16 needs weights in bf16, and model.from_scratch makes them in fp32."
        )
    recomputed = settings["activation_checkpointing"]
    if not isinstance(recomputed, bool) and (not recomputed or set(recomputed) - {"vision", "llm"}):
        raise UserError(
            f"model.activation_checkpointing must be true, false, or a list of vision and llm, got {recomputed!r}."
        )
    if settings["schedule"] not in SCHEDULES:
        raise UserError(
            f"model.schedule must be one of {', '.join(SCHEDULES)}, got {settings['schedule']!r}."
        )
