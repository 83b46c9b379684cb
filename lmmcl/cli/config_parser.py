"""The parser of a config by itself, for those who describe it (completion, schema) or only check it (sweep)."""

from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from typing import Any

from typing_extensions import override

from lmmcl.cli.sequence_cli import SequenceCLI


class _Unparsed(SequenceCLI):
    @override
    def instantiate_classes(self) -> None:
        """Nothing: only the parser is wanted."""

    @override
    def parse_arguments(self, parser: Any, args: Any) -> None:
        self.config = parser.get_defaults()


def config_parser() -> ArgumentParser:
    """The parser of ``lmmcl fit``, which has read nothing."""
    parser: ArgumentParser = _Unparsed([], "lmmcl fit").parser
    return parser


def reading_parser() -> Callable[[Sequence[str]], dict[str, Any]]:
    """Reads the words behind ``lmmcl fit`` into a config, one after the other, and makes nothing of it.

    What it gives raises a `UserError` where a key or a value is wrong, or a YAML is missing.
    """
    cli = _Unparsed([], "lmmcl fit")

    def read(words: Sequence[str]) -> dict[str, Any]:
        SequenceCLI.parse_arguments(cli, cli.parser, list(words))
        config: dict[str, Any] = cli.config.as_dict()
        return config

    return read
