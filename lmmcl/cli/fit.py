"""``lmmcl fit``: teaches a model the tasks of a YAML, one after the other."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from lmmcl.cli.quiet import quiet

USAGE = "lmmcl fit --config FILE [--run DIR] [--ckpt_path last] [--KEY VALUE ...] [--debug]"


def run(arguments: Sequence[str]) -> int:
    """Trains from a config, or goes on with a run (``--ckpt_path last``), after the cheap part of the preflight.

    Returns:
        exit code: 3 if a critical row flipped, see `lmmcl.cli.critical`.
    """
    quiet()
    from lmmcl.cli.critical import critical_exit
    from lmmcl.cli.sequence_cli import SequenceCLI
    from lmmcl.evaluation.flipped_examples import read_flips
    from lmmcl.mitigation import Mitigation, callbacks_of
    from lmmcl.preflight import cheap, refuse

    cli = SequenceCLI(arguments, USAGE)
    mitigations = [one for one in callbacks_of(cli.trainer) if isinstance(one, Mitigation)]
    found = cheap(cli.model, cli.datamodule, mitigations)
    refuse(found)
    if cli.trainer.is_global_zero:
        for finding in found:
            if finding.level == "warning":
                Console(stderr=True).print(f"[yellow]{escape(f'{finding.task} {finding.text}'.strip())}[/]")
    cli.trainer.fit(cli.model, cli.datamodule)
    return critical_exit(read_flips(cli.model.run_path)) if cli.trainer.is_global_zero else 0
