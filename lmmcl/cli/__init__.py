"""The command line: ``lmmcl <command>``; it imports torch only when a command needs it."""

from lmmcl.cli.entry import main

__all__ = ["main"]
