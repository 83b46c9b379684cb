"""What a config asks of Lightning's Trainer, refused in the words of the YAML and not in Lightning's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from lmmcl.errors import UserError

_DEVICES = r"auto|-1|0*[1-9]\d*|\d+(\s*,\s*\d+)+,?|\d+,"


class DevicesMissingError(UserError):
    """The devices that a config asks for are not on this machine."""


def check_settings(settings: Mapping[str, Any]) -> None:
    """Looks at precision, strategy, devices and accelerator.

    Args:
        settings: ``trainer`` of a config.

    Raises:
        UserError: a value is none that a sequence takes.
        DevicesMissingError: it is, on another machine.
    """
    # On a CPU Lightning would take another one, and say so in a warning only.
    if str(settings["precision"]) in ("16", "16-mixed"):
        raise UserError(
            "trainer.precision: 16-mixed is refused: fp16 needs a loss scale, whose skipped steps a sequence cannot "
            "repeat exactly. Use bf16-mixed or 32-true."
        )
    _check_strategy(settings["strategy"])
    _check_devices(settings["devices"])
    _check_accelerator(settings["accelerator"])


def refusal(error: Exception, settings: Mapping[str, Any]) -> UserError:
    """What Lightning's Trainer says against its arguments, on one line."""
    text = " ".join(str(error).split())
    if found := re.search(r"requested gpu: .+ your machine only has: (\[.*?\])", text):
        return DevicesMissingError(
            f"trainer.devices: {settings['devices']} are asked for, and this machine has {found[1]} only; ask for "
            "fewer, or run where they are."
        )
    if text.startswith("`devices`"):
        return UserError(
            f"trainer.devices must be a number of processes from 1 on a CPU, got {settings['devices']!r}."
        )
    return UserError(f"trainer: {text}")


def _check_strategy(strategy: Any) -> None:
    if (
        isinstance(strategy, str)
        and strategy not in ("auto", "fsdp2")
        and not strategy.startswith(("ddp", "single_device"))
    ):
        reason = ""
        if "fsdp" in strategy or "deepspeed" in strategy:
            reason = (
                " (FSDP1 refuses clipping by norm, DeepSpeed leaves the second task without an optimizer)"
            )
        raise UserError(f"trainer.strategy must be auto, ddp or fsdp2, got {strategy!r}{reason}.")


def _check_devices(devices: Any) -> None:
    if isinstance(devices, str | int) and not re.fullmatch(_DEVICES, str(devices).strip()):
        raise UserError(
            "trainer.devices must be a number of processes from 1, a list of devices, or auto for all of this machine, "
            f"got {devices!r}."
        )


def _check_accelerator(accelerator: Any) -> None:
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    here = {"gpu": cuda or mps, "cuda": cuda, "mps": mps}
    if isinstance(accelerator, str) and not here.get(accelerator, True):
        raise DevicesMissingError(
            f"trainer.accelerator is {accelerator}, and torch {torch.__version__} finds no such device here; leave the "
            "key out for what is here, install the torch that fits the device, or run where one is."
        )
