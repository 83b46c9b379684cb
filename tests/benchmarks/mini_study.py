"""The study in small: keeps what finished runs of `configs/mini/study` showed, and makes table and picture of it.

    python -m tests.benchmarks.mini_study collect runs/mini_study/*/*/
    python -m tests.benchmarks.mini_study table

`collect` adds every finished run to `mini_study/results.json`, under the name of its sweep and its own; a run that is
collected again replaces itself. `table` prints the tables of RESULTS.md and README and draws the comparison.
"""

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmmcl.cost import read_cost
from lmmcl.evaluation.probe_log import read_probes
from lmmcl.evaluation.summary import Summary
from lmmcl.report.figures import draw_comparison
from lmmcl.run.checkpoint import as_json, write_atomically

FOLDER = Path(__file__).parent / "mini_study"
RESULTS = FOLDER / "results.json"
KEPT = (
    "target_learning",
    "target_forgetting",
    "target_overall",
    "held_out_change",
    "worst_held_out_change",
    "recovery",
)
Result = dict[str, Any]


def result_of(run: Path) -> Result:
    """What is kept of a run: its estimates, its held-out curve, its probes at stages, its cost."""
    summary = json.loads((run / "summary.json").read_bytes())
    probes = {
        f"{probe.name}: {series}": [
            _rounded(row.values.get(series)) for row in probe.rows if row.at == "stage"
        ]
        for probe in read_probes(run)
        for series in sorted({name for row in probe.rows for name in row.values})
    }
    return {
        "sweep": run.parent.name,
        "run": run.name,
        "estimates": {name: summary["estimates"][name] for name in KEPT if name in summary["estimates"]},
        "held_out_curve": [point["value"] for point in summary["held_out_curve"]],
        "probes": probes,
        "seconds": round(sum(part.seconds for part in read_cost(run))),
        "flops": sum(part.flops for part in read_cost(run)),
    }


def _rounded(value: float | None) -> float | None:
    """Four digits; nothing where a probe could not say."""
    return None if value is None or math.isnan(value) else float(f"{value:.4g}")


def collect(runs: Iterable[Path]) -> None:
    """Adds finished runs to the results."""
    held = {(one["sweep"], one["run"]): one for one in load()}
    for run in runs:
        if (run / "summary.json").exists():
            found = result_of(run)
            held[found["sweep"], found["run"]] = found
    FOLDER.mkdir(exist_ok=True)
    write_atomically(RESULTS, as_json([held[key] for key in sorted(held)]))
    print(f"{RESULTS}: {len(held)} runs")


def load() -> list[Result]:
    """What was collected."""
    return json.loads(RESULTS.read_bytes()) if RESULTS.exists() else []


def ways(results: Sequence[Result]) -> dict[str, dict[str, list[Result]]]:
    """By sweep and way to train, the results of its seeds: a run's name without its seed."""
    found: dict[str, dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for one in results:
        way = ",".join(part for part in one["run"].split(",") if not part.startswith("seed="))
        found[one["sweep"]][way].append(one)
    return found


def mean(seeds: Sequence[Result], name: str) -> float:
    """Mean of a number over seeds; nan where a run has none."""
    values = [seed["estimates"].get(name, {}).get("value") for seed in seeds]
    return float("nan") if None in values else float(np.mean(values))


def table(found: Mapping[str, Sequence[Result]]) -> str:
    """One line for each way to train, best held-out change first, as Markdown."""
    lines = [
        "| | seeds | learning | forgetting | overall | held-out | each seed | worst stage | recovery | minutes |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for way, seeds in sorted(
        found.items(), key=lambda item: -np.nan_to_num(mean(item[1], "held_out_change"), nan=-999)
    ):
        numbers = [f"{mean(seeds, name):+.1f}" for name in KEPT]
        each = ", ".join(
            f"{seed['estimates']['held_out_change']['value']:+.1f}"
            for seed in seeds
            if "held_out_change" in seed["estimates"]
        )
        minutes = np.mean([seed["seconds"] for seed in seeds]) / 60
        cells = [way, str(len(seeds)), *numbers[:4], each, *numbers[4:], f"{minutes:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines).replace("+nan", "")


def summaries(seeds: Sequence[Result]) -> list[Summary]:
    """The results as the comparison draws them."""
    empty = {"stages": 5, "held_out_curve": [], "worst_stage": None, "flips": {}, "seed": 0, "resamples": 0}
    return [Summary.from_dict({**empty, "estimates": seed["estimates"]}) for seed in seeds]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["collect", "table"])
    parser.add_argument("runs", type=Path, nargs="*")
    arguments = parser.parse_args()
    if arguments.what == "collect":
        collect(arguments.runs)
        return
    for sweep, found in ways(load()).items():
        print(f"\n### {sweep}\n\n{table(found)}")
        measured = {
            way: summaries(seeds)
            for way, seeds in found.items()
            if "held_out_change" in seeds[0]["estimates"]
        }
        if measured:
            draw_comparison(measured, FOLDER / sweep)


if __name__ == "__main__":
    main()
