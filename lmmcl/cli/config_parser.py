"""The parser of a config by itself, for those who describe it: completion and schema."""

from argparse import ArgumentParser
from typing import Any

from typing_extensions import override

from lmmcl.cli.sequence_cli import SequenceCLI


class _Unparsed(SequenceCLI):
    @override
    def parse_arguments(self, parser: Any, args: Any) -> None:
        self.config = parser.get_defaults()

    @override
    def instantiate_classes(self) -> None:
        """Nothing: only the parser is wanted."""


def config_parser() -> ArgumentParser:
    """The parser of ``lmmcl fit``, which has read nothing."""
    parser: ArgumentParser = _Unparsed([], "lmmcl fit").parser
    return parser
