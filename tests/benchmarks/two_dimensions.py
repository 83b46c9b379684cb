"""Tensor parallel beside sharding: groups of two processes against one process, on gloo, on the CPU.

What is shown is how far the weights of a two-task sequence end from those of one process: LwF with WiSE-FT and held-out
evaluation, without and with a kill and a resume; the whole model with penalties; adapters; what looks at whole rows or
whole tensors. With two processes there is one group, with four there are two, and rows and shards are dealt over them.
Weights move by about 1e-2 a step; Adam turns the rounding of a tiny gradient into at most 1e-4.

    python -m tests.benchmarks.two_dimensions [--processes 2,4]

takes about four minutes on two cores.
"""

import argparse
import json
import logging
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file

from lmmcl import StageCallback, TaskSequenceDataModule
from lmmcl.callbacks import EWC, GPM, TIES, LoRA, ModelTailor, MoE, MoELoRA, WeightDrift
from lmmcl.parallel.strategy import FSDP2Strategy
from tests.tiny import tiny_checkpoint
from tests.torchrun import torchrun
from tests.toy import toy_module, toy_task, toy_trainer
from tests.two_processes import fit, fit_whole

BOUND = 5e-4
"""Largest difference of a weight; what is counted twice, or not at all, is off by 1e-2."""
STAGES = ("01-first", "02-second")
METHODS: dict[str, Callable[[], list[StageCallback]]] = {
    "LoRA": lambda: [LoRA(rank=2, dropout=0.0)],
    "MoELoRA": lambda: [MoELoRA(rank=4, experts=2, dropout=0.0)],
    "MoE": lambda: [MoE()],
    "GPM, Model Tailor": lambda: [GPM(samples=4), ModelTailor(keep=0.5, samples=4), WeightDrift()],
    "EWC, TIES": lambda: [EWC(weight=10.0, batches=1), TIES(keep=0.5)],
}
RUNS = ("sequence", "resumed", "whole model", *METHODS)


def fit_with(method: str, checkpoint: Path, run: Path, strategy: FSDP2Strategy | str, processes: int) -> None:
    """Two tasks of projections whose outputs and of projections whose inputs are cut."""
    data = TaskSequenceDataModule([toy_task("first", 0), toy_task("second", 1)], batch_size=8)
    recipe = "mlp" if method == "MoE" else ["sa_proj", "mlp"]
    trainer = toy_trainer(callbacks=METHODS[method](), strategy=strategy, devices=processes)
    trainer.fit(toy_module(checkpoint, run, recipe=recipe), data)


def run_all(checkpoint: Path, out: Path, processes: int) -> None:
    """Every sequence: alone in this process, or on all that torchrun started."""

    def strategy() -> Any:
        return "auto" if processes == 1 else FSDP2Strategy(tensor_parallel=2)

    fit(checkpoint, out / "sequence", strategy(), processes)
    fit(checkpoint, out / "resumed", strategy(), processes, kill_at=5)
    fit(checkpoint, out / "resumed", strategy(), processes, resume=True)
    fit_whole(checkpoint, out / "whole model", strategy(), processes)
    for method in METHODS:
        fit_with(method, checkpoint, out / method, strategy(), processes)


def apart(mine: Path, other: Path) -> float:
    """Largest difference of two runs' weights over both stages."""
    worst = 0.0
    for stage in STAGES:
        one, two = (load_file(run / "stages" / stage / "weights.safetensors") for run in (mine, other))
        if one.keys() != two.keys():
            raise SystemExit(f"{mine} and {other} hold different tensors")
        # Softmax does not see the bias of the keys: its gradient is rounding alone.
        names = [n for n in one if not ("vision_tower" in n and n.endswith("k_proj.bias"))]
        worst = max(worst, *(float((one[n] - two[n]).abs().max()) for n in names))
    return worst


def check_files(mine: Path, other: Path) -> None:
    """A resumed run has the bytes of one that never stopped, and the matrix is that of one process."""
    for stage in STAGES:
        file = f"stages/{stage}/weights.safetensors"
        if (mine / "resumed" / file).read_bytes() != (mine / "sequence" / file).read_bytes():
            raise SystemExit(f"{mine}: a resumed run has other bytes than one that never stopped")
    found, wanted = (json.loads((run / "sequence" / "matrix.json").read_text()) for run in (mine, other))
    if found != wanted:
        raise SystemExit(f"{mine}: another matrix than that of one process")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", default="2,4")
    parser.add_argument("--inside", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    if arguments.inside:
        checkpoint, out = arguments.inside
        run_all(checkpoint, out, int(os.environ["WORLD_SIZE"]))
        return
    counts = [int(count) for count in arguments.processes.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        checkpoint = tiny_checkpoint(out / "tiny")
        run_all(checkpoint, out / "1", 1)
        for count in counts:
            inside = ["tests.benchmarks.two_dimensions", "--inside", checkpoint, out / str(count)]
            torchrun(count, "-m", *inside, timeout=3600)
            check_files(out / str(count), out / "1")
        found = {run: [apart(out / str(count) / run, out / "1" / run) for count in counts] for run in RUNS}
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    print(f"{machine}, torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"{'furthest from one process':26}" + "".join(f"{count:>4} processes" for count in counts))
    for run, values in found.items():
        print(f"{run:26}" + "".join(f"{value:14.1e}" for value in values))
    if max(value for values in found.values() for value in values) > BOUND:
        raise SystemExit(f"a weight is further than {BOUND} from that of one process")


if __name__ == "__main__":
    main()
