"""A parser of plain options whose mistakes are one line."""

from argparse import ArgumentParser
from typing import NoReturn

from typing_extensions import override

from lmmcl.cli.mistakes import hint
from lmmcl.errors import UserError


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
        options = [
            option for action in self._actions for option in action.option_strings if option.startswith("--")
        ]
        word = message.removeprefix("unrecognized arguments: ").split()[0]
        near = hint(word, options) if message.startswith("unrecognized") else ""
        raise UserError(f"{message};{near} {self.prog} --help lists all.")
