"""A parser of plain options whose mistakes are one line."""

import re
from argparse import ArgumentParser
from typing import NoReturn

from typing_extensions import override

from lmmcl.cli.unknown_key import hint
from lmmcl.errors import UserError


def wrong_value(message: str) -> str | None:
    """One line for a value that argparse refuses; None where its message is about something else."""
    if found := re.fullmatch(r"argument (\S+): invalid (int|float) value: (.+)", message):
        return f"{found[1]} must be {'a whole number' if found[2] == 'int' else 'a number'}, got {found[3]}."
    if found := re.fullmatch(r"argument (\S+): invalid choice: (.+) \(choose from (.+)\)", message):
        known = " or ".join(word.strip(" '") for word in found[3].split(","))
        return f"{found[1]} must be {known}, got {found[2]}."
    return None


class CommandParser(ArgumentParser):
    """argparse without pages of usage.

    Args:
        command: such as ``lmmcl export``.
        text: what it does.
    """

    def __init__(self, command: str, text: str) -> None:
        super().__init__(prog=command, description=text, allow_abbrev=False)

    @override
    def error(self, message: str) -> NoReturn:
        if wrong := wrong_value(message):
            raise UserError(wrong)
        options = [
            option for action in self._actions for option in action.option_strings if option.startswith("--")
        ]
        word = message.removeprefix("unrecognized arguments: ").split()[0]
        near = hint(word, options) if message.startswith("unrecognized") else ""
        raise UserError(f"{message};{near} {self.prog} --help lists all.")
