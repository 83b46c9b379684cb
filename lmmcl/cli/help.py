"""The help of the commands that read a config: our keys in full, Lightning's where a sequence uses them."""

from __future__ import annotations

import re
import shutil
import textwrap
from argparse import ArgumentParser, HelpFormatter
from collections.abc import Iterator

from lightning.pytorch.cli import LightningArgumentParser
from typing_extensions import override

import lmmcl.callbacks
from lmmcl.cli.critical import HELP as CRITICAL_HELP
from lmmcl.cli.entry import COMMANDS
from lmmcl.cli.keys import TRAINER, Key, keys_of, plain
from lmmcl.data.parse import built_in_tasks
from lmmcl.structure.recipe import RECIPES

_OPTIONS = {
    "-h, --help": "this text.",
    "-c, --config FILE": "a YAML with the keys below. Several make one: a later one wins, key by key; a list is "
    "replaced, or grows by what stands under its name with a plus (held_out+: [scene]).",
    "--print_config": "print the whole config that the other words give, defaults included, and leave.",
    "--debug": "show the traceback of an error.",
}
_OWN = {
    "preflight": {
        "--decode sample|all": "decode some of the pictures, or every one [sample].",
        "--gpu_memory SIZE": "what one GPU has, such as 80GiB, where the run's GPUs are not here.",
        "--time": "load the weights, time a few steps and say how long the run takes.",
        "--show N": "print so many rows of each target with what is learned of them [1].",
        "--json": "print the findings as JSON on the standard output, all else on the standard error.",
    },
    "validate": {
        "--run RUN": "measure a stage of this run, with the run's own config; without it, the model of --config.",
        "--stage K": "number of the stage, 0 for the base model [the last].",
    },
}
"""Options of a command that are no keys of a config."""
_EXIT = {"preflight": "Exit code 2: a check failed; each failure says what to change."}
_GROUPS = {
    "": "the run",
    "model": "model: what is taught",
    "data": "data: the tasks",
    "trainer": "trainer: where and how it runs (Lightning's Trainer)",
}


class SequenceParser(LightningArgumentParser):
    """Lightning's parser with a help that fits a few screens."""

    @override
    def format_help(self, formatter: HelpFormatter | None = None) -> str:
        names = {action.dest for action in self._actions}
        # The parser of one class, such as --trainer.callbacks.help LwF asks for, keeps the usual help.
        return sequence_help(self) if "model.path" in names else str(super().format_help(formatter))


def sequence_help(parser: ArgumentParser, width: int | None = None) -> str:
    """The help of a command that reads a config.

    Args:
        parser: of the command.
        width: in columns; None: the terminal's, 110 at most.
    """
    width = min(width or shutil.get_terminal_size().columns, 110)
    command = parser.prog.split()[-1]
    about = COMMANDS.get(command, "")
    usage = textwrap.wrap(f"usage: {parser.usage}", width, subsequent_indent=" " * 7, break_on_hyphens=False)
    lines = [*usage, "", *([f"{about[0].upper()}{about[1:]}."] if about else [])]
    lines += [*_wrapped("Every key of the YAML is an option, too: --model.lr 1e-5.", "", width)]
    lines += [*_wrapped(_EXIT.get(command, CRITICAL_HELP), "", width), ""]
    lines += ["options:"]
    for option, text in {**_OWN.get(command, {}), **_OPTIONS}.items():
        lines += [f"  {option}", *_wrapped(text, " " * 8, width)]
    keys = keys_of(parser)
    for group, title in _GROUPS.items():
        shown = [key for key in keys if key.group == group and (group != "trainer" or _last(key) in TRAINER)]
        lines += ["", f"{title}:"]
        for key in shown:
            grows = (
                f", --{key.name}+"
                if (key.appends and group != "trainer") or key.name == "trainer.callbacks"
                else ""
            )
            lines += [f"  --{key.name}{grows} {key.kind}{_default(key)}", *_wrapped(key.text, " " * 8, width)]
    others = [_last(key) for key in keys if key.group == "trainer" and _last(key) not in TRAINER]
    lines += _wrapped(f"Lightning's other keys: {', '.join(others)}.", "  ", width)
    lines += ["", "callbacks (--trainer.callbacks.help NAME says more; your own: module.Class):"]
    column = max(map(len, lmmcl.callbacks.__all__)) + 4
    for name in lmmcl.callbacks.__all__:
        about_it = [*_wrapped(_first_sentence(getattr(lmmcl.callbacks, name)), " " * column, width)]
        lines += [f"  {name}".ljust(column) + about_it[0].lstrip(), *about_it[1:]]
    for title, words in (("recipes", [*RECIPES, "last_N", "first_N_frozen"]), ("tasks", built_in_tasks())):
        lines += ["", f"{title}:", *_wrapped(", ".join(words), "  ", width)]
    return "\n".join(lines) + "\n"


def _first_sentence(callback: type) -> str:
    """What a callback does, by its docstring: a formula there is followed by what it means."""
    text = plain((callback.__doc__ or "").strip().partition("\n\n")[0])
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0]


def _last(key: Key) -> str:
    return key.name.rpartition(".")[2]


def _default(key: Key) -> str:
    if key.required:
        return " (must be given)"
    value = str(key.default).lower() if isinstance(key.default, bool) else key.default
    return "" if value in (None, (), []) else f" [{value}]"


def _wrapped(text: str, indent: str, width: int) -> Iterator[str]:
    yield from textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
