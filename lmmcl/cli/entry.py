"""Finds the command, runs it, and turns what goes wrong into one line and an exit code."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

from lmmcl.errors import UserError
from lmmcl.redaction import redacted_output

COMMANDS = {
    "fit": "teach a model a sequence of tasks, and measure it before and after every one",
    "preflight": "find what would go wrong in a run, before it, without loading weights",
    "validate": "measure a stage of a run, or any model, again",
    "fetch": "fetch the pictures that a task's data name by address, such as pixmo_count's",
    "recipes": "show what each recipe would train in a model, and its memory",
    "audit": "find what tuning did to any model, and write what gives most of it back",
    "report": "write what runs learned and forgot as one HTML page",
    "sweep": "run every combination of a grid, and go on with it after a kill",
    "export": "write a stage of a run as a Hugging Face folder",
    "merge": "merge tuned models, or adapters, with their base, tensor by tensor",
    "schema": "print the JSON schema of a config, for editors",
    "completion": "print the completion of this command line for bash or zsh",
}
_PARENT_SECONDS = 15.0
"""How long a launched process waits for the first one, which as a rule met the same mistake, to say it and end."""
USAGE = f"""usage: lmmcl COMMAND ...

Teach a large multimodal model new skills one after the other without losing the old ones, and measure both.

commands:
{chr(10).join(f"  {name:<12}{text}" for name, text in COMMANDS.items())}

lmmcl COMMAND --help says more; --debug with any command shows the traceback of an error.
Exit codes: 0 all went well, 2 a mistake that you can mend, 3 a row marked critical was right and is wrong now.
A first run, in minutes on two CPU cores:  lmmcl fit --config configs/seq.yaml
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: without the program's name; None takes the process's.

    Returns:
        exit code: 0, or 2 for a mistake that the user can mend, or 1 for anything else that went wrong, or what the
        command gives (3: a critical row flipped, see `lmmcl.cli.critical`). A run that is asked to stop by SIGTERM
        leaves by ``SystemExit(143)``.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    with redacted_output():
        return _ended(given)


def _ended(given: list[str]) -> int:
    """Runs a command and gives its exit code, whatever goes wrong."""
    debug = "--debug" in given
    try:
        return _run([word for word in given if word != "--debug"])
    except UserError as error:
        if debug:
            traceback.print_exc()
        return _fail(str(error), 2)
    except KeyboardInterrupt:
        return _fail("interrupted; go on with --ckpt_path last.", 130)
    except Exception as error:  # noqa: BLE001 - the last resort: one line, and --debug shows the traceback
        if debug:
            traceback.print_exc()
        reason = " ".join(str(error).split()) or "no reason given"
        if type(error).__name__ == "OutOfMemoryError":
            return _fail(
                f"{reason} Lower data.micro_batch_size (or data.micro_batch_tokens) or set "
                "model.activation_checkpointing: true.",
                1,
            )
        return _fail(f"{type(error).__name__}: {reason} (--debug shows where)", 1)


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    command = words[0]
    if command in ("-V", "--version"):
        from lmmcl import __version__

        print(f"lmmcl {__version__}")
        return 0
    if command not in COMMANDS:
        near = get_close_matches(command, COMMANDS, n=1, cutoff=0.5)
        raise UserError(
            f"there is no command {command!r}; {f'did you mean {near[0]}? ' if near else ''}"
            f"Commands are {', '.join(COMMANDS)}."
        )
    # Appended, never inserted: a user's callbacks/ or code may be named in a YAML, and shadows nothing.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    code: int | None = import_module(f"lmmcl.cli.{command}").run(words[1:])
    return code or 0


def _fail(message: str, code: int) -> int:
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    if rank:
        parent, until = os.getppid(), time.monotonic() + _PARENT_SECONDS
        while time.monotonic() < until:
            if os.getppid() != parent:
                return code
            time.sleep(0.1)
    print(f"lmmcl: error{f' (process {rank})' if rank else ''}: {message}", file=sys.stderr, flush=True)
    return code
