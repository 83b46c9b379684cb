"""The parser of a config by itself, for those who describe it (completion, schema) or only check it (sweep)."""

from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from lmmcl.cli.sequence_cli import SequenceCLI


class _Parsed(SequenceCLI):
    @override
    def instantiate_classes(self) -> None:
        """Nothing: only the parser is wanted."""


class _Unparsed(_Parsed):
    @override
    def parse_arguments(self, parser: Any, args: Any) -> None:
        self.config = parser.get_defaults()


def config_parser() -> ArgumentParser:
    """The parser of ``lmmcl fit``, which has read nothing."""
    parser: ArgumentParser = _Unparsed([], "lmmcl fit").parser
    return parser


def check_words(words: Sequence[str]) -> None:
    """Parses what ``lmmcl fit`` would be told, and makes nothing of it.

    Raises:
        UserError: a key or a value is wrong, or a YAML is missing.
    """
    _Parsed(words, "lmmcl fit")
