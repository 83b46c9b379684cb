"""How long ``lmmcl report`` takes on 20 runs, as a user starts it: it is to stay below 20 seconds.

Four ways to train with five seeds each, thirteen tasks of 100 examples, five stages, probes in every run; the runs are
made up, the report reads and writes all that it would of real ones.

    python -m tests.benchmarks.report [--runs 20] [--examples 100]
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.report.fake_folder import fake_folder

LIMIT = 20.0
_WAYS = (
    ("full", "full", 0.0),
    ("mlp_gate_up", "full", -8.0),
    ("sa_proj", "sa_proj", 0.0),
    ("mlp_down", "full", -4.0),
)


def made(folder: Path, runs: int, examples: int) -> list[Path]:
    """Folders of so many runs."""
    paths = []
    for i in range(runs):
        recipe, like, shift = _WAYS[i % len(_WAYS)]
        path = folder / f"{recipe}_{i // len(_WAYS)}"
        seed = i // len(_WAYS)
        paths.append(fake_folder(path, recipe, like=like, shift=shift, seed=seed, n=examples, inside=True))
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--examples", type=int, default=100, help="of each task")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = made(Path(folder), arguments.runs, arguments.examples)
        page = Path(folder) / "report" / "report.html"
        begin = time.perf_counter()
        command = [sys.executable, "-m", "lmmcl", "report", *map(str, paths), "--to", str(page)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        several = time.perf_counter() - begin
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        begin = time.perf_counter()
        subprocess.run([*command[:4], str(paths[0])], check=True, stdout=subprocess.DEVNULL)
        one = time.perf_counter() - begin
        size = page.stat().st_size / 1e6
    cpu = used.ru_utime + used.ru_stime
    print(f"{arguments.runs} runs: {several:.1f} s ({cpu:.1f} s of the processor), a page of {size:.2f} MB")
    print(f"one run with all its figures: {one:.1f} s")
    if several > LIMIT:
        raise SystemExit(f"slower than {LIMIT:.0f} s")


if __name__ == "__main__":
    main()
