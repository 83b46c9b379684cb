"""Kills a sequence at random moments, resumes it each time, and compares its end with a run that was left alone.

    python -m tests.benchmarks.kills [--kills 200] [--seed 0] [--folder DIR]

Toy sequences of two tasks with held-out evaluation, LwF and WiSE-FT, a checkpoint at every step, in processes forked
from one that has the imports behind it. Each life of a process gets a share, drawn by counter, of the time that runs
take, killed and resumed as they are, and then SIGKILL; that time is learned from run to run, so that the kills spread
over it on a machine that gets busy, too. A run that reached its end is compared byte by byte (stages, predictions,
matrix, log of the steps), and another begins. Exits with 1 if one byte differs.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.machine import machine
from tests.killed_runs import killed_runs
from tests.tiny import tiny_checkpoint


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    words = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=words.folder) as name:
        checkpoint = tiny_checkpoint(Path(name) / "tiny")
        for found in killed_runs(checkpoint, Path(name), words.kills, words.seed):
            seconds = time.monotonic() - begun
            print(f"{found.kills} kills, {found.runs} runs, {seconds:.0f} s", flush=True)
    print(machine())
    print(
        f"{found.in_a_save} of {found.kills} kills met a checkpoint in mid-write; newest whole one at the kill:"
    )
    for (place, writing), count in sorted(found.places.items()):
        print(f"  {count:4} {place}{' (another being written)' if writing else ''}")
    print(f"files that differ from those of a run that was left alone: {len(found.different)}")
    for file in found.different:
        print(f"  {file}")
    return bool(found.different)


if __name__ == "__main__":
    sys.exit(main())
