"""``lmmcl preflight``: what would go wrong in a run, found before it, without loading weights."""

from __future__ import annotations

import json
import os
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NoReturn

from typing_extensions import override

from lmmcl.cli.quiet import quiet
from lmmcl.cli.words import wrong_value
from lmmcl.errors import UserError

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from lmmcl.cli.config_parts import ConfigParts
    from lmmcl.preflight.finding import Finding
    from lmmcl.preflight.memory import Place

USAGE = (
    "lmmcl preflight --config FILE [--decode all] [--gpu_memory 80GiB] [--time] [--show N] [--json] "
    "[--KEY VALUE ...] [--debug]"
)
CODE = 2
"""Exit code where a check failed: a mistake that the user can mend."""
_FILE_WIDTH = 100
_UNITS = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "KI": 2**10,
    "MI": 2**20,
    "GI": 2**30,
    "TI": 2**40,
}


class _Words(ArgumentParser):
    @override
    def error(self, message: str) -> NoReturn:
        plain = f"{message.removeprefix('argument ')}; lmmcl preflight --help lists all."
        raise UserError(wrong_value(message) or plain)


def run(arguments: Sequence[str]) -> None:
    """Checks the config of a run and prints the first samples and one table; leaves with code 2 where a check failed.

    ``--decode all`` decodes every picture, ``--gpu_memory`` says what a GPU has where none is here, ``--time`` loads
    the weights and times a few steps, ``--show`` says how many samples of each target are printed, and ``--json``
    prints the findings on the standard output and all else on the standard error.
    """
    quiet()
    parser = _Words(add_help=False, allow_abbrev=False)
    parser.add_argument("--decode", choices=("sample", "all"), default="sample")
    parser.add_argument("--gpu_memory")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--show", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    own, words = parser.parse_known_args(list(arguments))
    if own.show < 0:
        raise UserError(f"--show must be a number of rows from 0, got {own.show}.")
    memory = None if own.gpu_memory is None else size_of(own.gpu_memory)

    from rich.console import Console

    from lmmcl.cli.config_parts import ConfigParts

    stream = sys.stderr if own.json else sys.stdout
    console = Console(file=stream, width=None if stream.isatty() else _FILE_WIDTH, highlight=False)
    parts = ConfigParts(words, USAGE)
    findings = _check(parts, own, memory, console)
    if own.json:
        print(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False, indent=1))
    if any(finding.level == "failure" for finding in findings):
        raise SystemExit(CODE)


def size_of(text: str) -> int:
    """Bytes of ``80GiB``, ``24 GB`` or a plain number.

    Raises:
        UserError: it is none of these.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?", text.strip().upper())
    if found is None or found[2] not in _UNITS or float(found[1]) == 0:
        raise UserError(f"--gpu_memory must be a size such as 80GiB, got {text!r}.")
    return round(float(found[1]) * _UNITS[found[2]])


def _check(parts: ConfigParts, own: Namespace, memory: int | None, console: Console) -> list[Finding]:
    """Runs the checks and prints what they find."""
    from rich.progress import Progress

    from lmmcl.preflight.finding import ordered, some
    from lmmcl.preflight.run import check_all, samples_of
    from lmmcl.preflight.table import findings_table, sample, verdict
    from lmmcl.preflight.timing import check_time

    device = _device(parts)
    place = _place(parts, device, memory)
    if parts.lmm is not None and parts.data is not None:
        for shown in samples_of(parts.lmm, parts.data, own.show):
            console.print(sample(f"{shown.task}: row {shown.row!r}", shown.pieces))
    findings = [*some(parts.faults), *parts.lmms_tasks(own.time)]
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        line = bar.add_task("reading rows", total=None)
        findings += check_all(
            parts.lmm,
            parts.data,
            place,
            prompts=parts.prompts,
            decode_all=own.decode == "all",
            progress=lambda done, total: bar.update(line, completed=done, total=total),
        )
        if own.time and parts.lmm is not None and parts.data is not None:
            bar.update(line, description="timing a few steps", total=None)
            findings += check_time(parts.lmm, parts.data, place, device, parts.prompts)
    findings = ordered(findings)
    console.print(findings_table(findings))
    console.print(verdict(findings))
    return findings


def _device(parts: ConfigParts) -> torch.device:
    """Where the trainer would run; without a trainer, a GPU if there is one."""
    import torch

    if parts.runner is not None:
        return torch.device(parts.runner.strategy.root_device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _place(parts: ConfigParts, device: torch.device, memory: int | None) -> Place:
    """Strategy, processes and memory: the trainer's, or, without one, as the config names them."""
    import torch
    from lightning.pytorch.strategies import DDPStrategy

    from lmmcl.optim.trained_bytes import TrainedBytes
    from lmmcl.parallel.strategy import FSDP2Strategy
    from lmmcl.preflight.memory import Place

    settings, trainer = parts.settings, parts.runner
    if trainer is not None:
        strategy = (
            "fsdp2"
            if isinstance(trainer.strategy, FSDP2Strategy)
            else "ddp"
            if isinstance(trainer.strategy, DDPStrategy)
            else "single"
        )
        world, cut = trainer.world_size, getattr(trainer.strategy, "tensor_parallel", 1)
    else:
        named, cut = _named(settings.get("strategy"))
        world = _count(settings.get("devices")) * int(settings.get("num_nodes") or 1)
        strategy = named if named == "fsdp2" else "ddp" if world > 1 else "single"
    model = parts.lmm.hparams if parts.lmm is not None else {}
    attention = model.get("attn_implementation")
    if memory is None and device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    elif memory is None and trainer is not None and hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // world
    return Place(
        strategy,
        world,
        tensor_parallel=max(1, cut) if strategy == "fsdp2" and world % max(1, cut) == 0 else 1,
        bf16=settings.get("precision") != "32-true",
        eager=attention == "eager" or (attention is None and trainer is not None and device.type == "cpu"),
        checkpointing=model.get("activation_checkpointing") or False,
        callbacks=parts.stage_callbacks,
        device=memory,
        each=TrainedBytes.of(model),
        frozen_bits=model.get("frozen_bits"),
    )


def _named(strategy: Any) -> tuple[str, int]:
    """Name of a strategy as a config gives it, by name or by class, and processes of its tensor-parallel groups."""
    if not isinstance(strategy, Mapping):
        return str(strategy), 1
    arguments = strategy.get("init_args") or {}
    last = str(strategy.get("class_path")).rpartition(".")[2]
    return ("fsdp2" if last == "FSDP2Strategy" else last), int(arguments.get("tensor_parallel") or 1)


def _count(devices: Any) -> int:
    """Devices on a machine as a config names them; ``auto`` and -1 count as one."""
    if isinstance(devices, list | tuple):
        return len(devices)
    return max(1, int(devices)) if str(devices).lstrip("-").isdecimal() else 1
