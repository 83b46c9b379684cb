"""``lmmcl fit``: teaches a model the tasks of a YAML, one after the other."""

from collections.abc import Sequence

from lmmcl.cli.quiet import quiet

USAGE = "lmmcl fit --config FILE [--run DIR] [--ckpt_path last] [--KEY VALUE ...] [--debug]"


def run(arguments: Sequence[str]) -> None:
    """Trains from a config, or goes on with a run (``--ckpt_path last``)."""
    quiet()
    from lmmcl.cli.sequence_cli import SequenceCLI

    cli = SequenceCLI(arguments, USAGE)
    cli.trainer.fit(cli.model, cli.datamodule)
