"""``lmmcl fit``: teaches a model the tasks of a YAML, one after the other."""

from collections.abc import Sequence

from lmmcl.cli.quiet import quiet


def run(arguments: Sequence[str]) -> None:
    """Trains from a config, or goes on with a run (``--ckpt_path last``)."""
    quiet()
    from lmmcl.cli.sequence_cli import SequenceCLI

    cli = SequenceCLI(arguments, "lmmcl fit")
    cli.trainer.fit(cli.model, cli.datamodule)
