"""``lmmcl completion``: a script that completes commands, options and their values in bash or zsh."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from importlib import import_module
from typing import Any, Literal, get_args, get_origin

from lmmcl.cli.entry import COMMANDS
from lmmcl.cli.quiet import quiet
from lmmcl.cli.words import CommandParser

SHELLS = ("bash", "zsh")
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w.]*\w\+?")
_FILES = ("--config", "-c", "--run", "--to", "--model.path")
_HEAD = """\
# Completion of lmmcl for {shell}. Write it to a file once, and again after an update:
#   {install}
"""
_INSTALL = {
    "bash": "lmmcl completion bash > ~/.local/share/bash-completion/completions/lmmcl",
    "zsh": "lmmcl completion zsh > ~/.lmmcl.zsh; echo 'source ~/.lmmcl.zsh' >> ~/.zshrc",
}
_ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"
_FUNCTION = """\
_lmmcl() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    words={commands}
  else
    case "${{COMP_WORDS[1]}} $before" in
      {files}) return ;;
{values}
{options}
    esac
  fi
  COMPREPLY=( $(compgen -W "$words" -- "$word") )
}}
complete -o default -F _lmmcl lmmcl
"""


def run(arguments: Sequence[str]) -> None:
    """Prints the script."""
    parser = CommandParser("lmmcl completion", f"Print a completion script. For bash: {_INSTALL['bash']}")
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash or zsh")
    words = parser.parse_args(list(arguments))
    quiet()
    options = {command: options_of(command) for command in COMMANDS if command != "completion"}
    print(script(words.shell, {**options, "completion": list(SHELLS)}, _values()), end="")


def options_of(command: str) -> list[str]:
    """The options that a command's own help names, in its order."""
    told = io.StringIO()
    with redirect_stdout(told), suppress(SystemExit):
        import_module(f"lmmcl.cli.{command}").run(["--help"])
    return list(dict.fromkeys(_OPTION.findall(told.getvalue())))


def script(shell: str, options: Mapping[str, Sequence[str]], values: Mapping[str, Sequence[str]]) -> str:
    """A script for a shell; it completes file names where it knows nothing better.

    Args:
        shell: ``bash`` or ``zsh``, which reads bash's form.
        options: by command.
        values: by option, what may stand behind it.
    """
    lines = [f"      *' '{option}) words={_quoted(found)} ;;" for option, found in values.items()]
    by_command = [f"      {command}' '*) words={_quoted(found)} ;;" for command, found in options.items()]
    return (
        _HEAD.format(shell=shell, install=_INSTALL[shell])
        + (_ZSH if shell == "zsh" else "")
        + _FUNCTION.format(
            commands=_quoted(options),
            files="|".join(f"*' '{option}" for option in _FILES),
            values="\n".join(lines),
            options="\n".join(by_command),
        )
    )


def _quoted(words: Iterable[str]) -> str:
    return shlex.quote(" ".join(words))


def _values() -> dict[str, list[str]]:
    """What may stand behind an option: its choices, or the names of recipes, callbacks, tasks, strategies."""
    import lmmcl.callbacks
    from lmmcl.cli.config_parser import config_parser
    from lmmcl.cli.keys import keys_of
    from lmmcl.data.parse import built_in_tasks
    from lmmcl.embedded import EMBEDDED
    from lmmcl.export.stage import DTYPES
    from lmmcl.structure.recipe import RECIPES

    tasks, callbacks, recipes = list(built_in_tasks()), lmmcl.callbacks.__all__, list(RECIPES)
    choices = {f"--{key.name}": found for key in keys_of(config_parser()) if (found := _choices(key.hint))}
    return choices | {
        "--model.recipe": recipes,
        "--recipe": recipes,
        "--model": list(EMBEDDED),
        "--dtype": list(DTYPES),
        "--trainer.callbacks": callbacks,
        "--trainer.callbacks+": callbacks,
        "--trainer.callbacks.help": callbacks,
        "--trainer.strategy": ["auto", "ddp", "fsdp2"],
        "--trainer.accelerator": ["auto", "cpu", "gpu"],
        "--data.tasks+": tasks,
        "--data.held_out+": tasks,
    }


def _choices(hint: Any) -> list[str]:
    if hint is bool:
        return ["true", "false"]
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint)]
    return (
        [choice for inner in get_args(hint) for choice in _choices(inner)] if "list" not in str(hint) else []
    )
