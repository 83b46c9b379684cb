"""Training speed and memory where logits hurt, and where they do not: lmmcl beside `transformers.Trainer` and TRL.

A tiny LLaVA whose embedding and head of 152,064 words are 78 of its 84 million parameters, batches of 16 pictures
of 64 by 64 pixels with short answers, bf16 autocast, two threads; then the same with 1,000 words. Same model,
samples, order, precision and trained tensors (`tests.benchmarks.contestants` has the settings); each contestant in
a process of its own, in alternating rounds; medians. Memory is the kernel's high-water mark of resident memory
above what the imports took. The losses of the last steps must agree to bf16's rounding: nobody trains less. It is
to reach, with 152,064 words, 6 times the samples a second of the `Trainer` and 10 times those of TRL at 0.45 and
0.6 of their memory; with 1,000, those of the faster.

On a CPU TRL makes the logits of every position, a chunk at a time; with Triton it leaves out what is not learned,
as lmmcl does everywhere. So its ratio is one of this machine.

    pip install --no-deps --target DIR -r tests/benchmarks/requirements.txt
    PYTHONPATH=DIR python -m tests.benchmarks.training [--recipes full,sa_proj] [--rounds 3] [--steps 10]
"""

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.benchmarks.contestants import AVERAGED, WAYS, Work, ordered_rows
from tests.benchmarks.fresh_process import run_fresh
from tests.benchmarks.machine import machine
from tests.benchmarks.vocabulary import Shape, write_checkpoint, write_samples

BATCH, WARM_UP = 16, 5
SHAPES = ((152_064, "full"), (152_064, "sa_proj"), (1_000, "full"))
AGREE = 2e-3
"""By how much the mean loss of the last steps may differ, relatively: bf16 has 8 bits."""

Found = dict[str, float]


def one_round(work: Work, ordered: Path, names: Sequence[str], folder: Path) -> dict[str, Found]:
    """Every contestant once, each in a fresh process."""
    found = {}
    for name in names:
        rows = work.rows if name == "lmmcl" else str(ordered)
        with tempfile.TemporaryDirectory(dir=folder) as out:
            mine = replace(work, rows=rows, out=str(Path(out) / "run"))
            found[name] = run_fresh("tests.benchmarks.contestants", {"name": name, **asdict(mine)})
    return found


def compare(work: Work, names: Sequence[str], rounds: int, folder: Path) -> dict[str, Found]:
    """Medians over rounds; whoever goes later finds warmer caches, so they take turns."""
    ordered = Path(work.rows).with_name(f"ordered-{work.recipe}.jsonl")
    ordered.write_text("".join(json.dumps(row) + "\n" for row in ordered_rows(work)))
    turns = [[*names[turn % len(names) :], *names[: turn % len(names)]] for turn in range(rounds)]
    all_found = [one_round(work, ordered, order, folder) for order in turns]
    return {
        name: {key: statistics.median(found[name][key] for found in all_found) for key in all_found[0][name]}
        for name in names
    }


def table(title: str, found: dict[str, Found]) -> None:
    """Prints what was found and lmmcl's ratios.

    Raises:
        SystemExit: the losses differ by more than rounding.
    """
    ours = found["lmmcl"]
    print(f"\n{title}\n")
    print(
        "| | samples/s | of a processor second | peak, GB | loss | lmmcl's speed | its speed by work | its memory |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, one in found.items():
        beside = (
            f"{ours['speed'] / one['speed']:.2f} | {ours['work'] / one['work']:.2f} | {ours['peak'] / one['peak']:.2f}"
            if name != "lmmcl"
            else "1 | 1 | 1"
        )
        numbers = f"{one['speed']:.1f} | {one['work']:.1f} | {one['peak'] / 1e9:.2f} | {one['loss']:.4f}"
        print(f"| {name} | {numbers} | {beside} |", flush=True)
        if not math.isclose(one["loss"], ours["loss"], rel_tol=AGREE):
            raise SystemExit(f"the losses differ: {name} {one['loss']:.5f}, lmmcl {ours['loss']:.5f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=10, help=f"timed ones, a multiple of {AVERAGED}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recipes", default="full,sa_proj", help="with the large vocabulary")
    parser.add_argument("--ways", default=",".join(WAYS))
    arguments = parser.parse_args()
    names = arguments.ways.split(",")
    try:
        trl = version("trl")
    except PackageNotFoundError:
        names, trl = [name for name in names if name != "TRL"], "not installed"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for vocabulary, recipe in SHAPES:
            if vocabulary > 1_000 and recipe not in arguments.recipes.split(","):
                continue
            shape, model = Shape(vocabulary), folder / f"model-{vocabulary}"
            if not model.exists():
                write_checkpoint(model, shape)
            # A sixth more than are trained on: the file is cut into train, dev and test by a hash of the ids.
            count = (WARM_UP + arguments.steps) * BATCH * 3 // 2
            rows = write_samples(folder / f"rows-{vocabulary}", shape, count)
            work = Work(str(model), str(rows), "", recipe, arguments.steps, WARM_UP, BATCH)
            found = compare(work, names, arguments.rounds, folder)
            table(f"{vocabulary:,} words, recipe `{recipe}`, medians of {arguments.rounds} rounds:", found)
    print(
        f"\n{machine('transformers', 'lightning')}, trl {trl}; {arguments.steps} timed steps of {BATCH} samples "
        f"behind {WARM_UP}"
    )


if __name__ == "__main__":
    main()
