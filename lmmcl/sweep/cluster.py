"""A sweep for a cluster: its commands, one a line, and a SLURM array script that runs them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from lmmcl.sweep.grid import Planned


def command_line(run: Planned) -> str:
    """The shell command of a run, which goes on where it was and does nothing that is done already."""
    folder = shlex.quote(str(run.folder))
    begun = f"$(test -e {folder}/config.json && echo --ckpt_path last)"
    return f"lmmcl fit {shlex.join(run.words)} {begun}"


def command_lines(runs: Sequence[Planned]) -> str:
    """All commands, one a line."""
    return "".join(f"{command_line(run)}\n" for run in runs)


def slurm_script(runs: Sequence[Planned], commands: Path, jobs: int, logs: Path) -> str:
    """An array script: element i runs line i of the commands.

    Args:
        runs: of the sweep.
        commands: the file that holds `command_lines`.
        jobs: elements at a time.
        logs: folder of what they say.
    """
    place = shlex.quote(str(commands.resolve()))
    # sbatch takes quotes as a shell does, and % for the beginning of a name of its own.
    said = shlex.quote(f"{str(logs.resolve()).replace('%', '%%')}/%a.log")
    return f"""#!/bin/bash
# sbatch this file. Partition, account, time and GPUs are your cluster's: add them here.
#SBATCH --job-name=lmmcl
#SBATCH --array=1-{len(runs)}%{jobs}
#SBATCH --output={said}
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@120
# A run that is asked to stop saves where it stands (exit code 143) and goes on when its element runs again.
cd {shlex.quote(str(Path.cwd()))}
eval "exec srun $(sed -n "${{SLURM_ARRAY_TASK_ID}}p" {place})"
"""
