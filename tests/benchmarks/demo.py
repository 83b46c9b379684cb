"""The demo over seeds: `configs/seq.yaml` (sa_proj) beside `configs/seq_full.yaml` (full), and README's picture.

    python -m tests.benchmarks.demo [--seeds 0 1 2] [--runs runs/demo]

Runs one after the other, skips those that are finished, and prints seconds and peak memory of each.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from lmmcl.evaluation.summary import Summary
from lmmcl.report.figures import draw_comparison

CONFIGS = {"sa_proj": "configs/seq.yaml", "full": "configs/seq_full.yaml"}
NUMBERS = {
    "target_learning": "target learning",
    "target_forgetting": "target forgetting",
    "target_overall": "target overall",
    "held_out_change": "held-out change",
    "worst_held_out_change": "held-out, worst stage",
    "recovery": "recovery",
}
FIGURES = Path(__file__).parent / "demo"


def run(config: str, seed: int, folder: Path) -> None:
    """Runs one sequence in a process of its own and prints what it cost."""
    begin = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "lmmcl",
        "fit",
        "--config",
        config,
        "--seed",
        str(seed),
        "--run",
        str(folder),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    # The largest child so far: an upper bound for this one.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{folder.name}: {time.perf_counter() - begin:.0f} s, at most {peak:.2f} GiB", flush=True)


def table(runs: dict[str, list[Summary]]) -> str:
    """Mean over seeds, and every seed, of each number, in points, as Markdown."""
    lines = ["| | " + " | ".join(runs) + " |", "|---|" + "---|" * len(runs)]
    for key, name in NUMBERS.items():
        cells = []
        for seeds in runs.values():
            values = [seed[key].value for seed in seeds]
            each = ", ".join(f"{value:+.1f}" for value in values)
            cells.append(f"**{sum(values) / len(values):+.1f}** ({each})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/demo"))
    arguments = parser.parse_args()
    summaries: dict[str, list[Summary]] = {name: [] for name in CONFIGS}
    for seed in arguments.seeds:
        for name, config in CONFIGS.items():
            folder = arguments.runs / f"{name}-{seed}"
            if not (folder / "summary.json").exists():
                run(config, seed, folder)
            summaries[name].append(Summary.from_dict(json.loads((folder / "summary.json").read_bytes())))
    draw_comparison(summaries, FIGURES)
    print(table(summaries))


if __name__ == "__main__":
    main()
