"""Memory and time of loading a model into FSDP2 shards, beside each process loading all of it before it is cut.

    python -m tests.benchmarks.sharded_loading [--layers 24] [--processes 2] [--rounds 3]

A random bf16 checkpoint of the mini model's kind (24 layers: 310 million parameters, 0.6 GB), its decoder trained, that
is, in fp32. Memory is the largest resident set of each process above what it held before it began (VmHWM; Linux).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.utils import logging

from lmmcl.building.masters import hold_masters
from lmmcl.loading import Checkpoint
from lmmcl.parallel.shard_loading import fill_, load_once, take_values
from lmmcl.parallel.strategy import settle
from lmmcl.structure.anatomy import Anatomy
from lmmcl.weights import checksums, fingerprint, local
from lmmcl.world.mini import write_skeleton
from tests.benchmarks.fresh_process import Memory
from tests.benchmarks.machine import machine

WAYS = ("straight into shards", "whole on every process")


def write(folder: Path, layers: int) -> Path:
    """A checkpoint of random values in bf16."""
    write_skeleton(
        folder,
        vision_hidden=256,
        vision_layers=4,
        vision_heads=4,
        hidden=1024,
        layers=layers,
        heads=8,
        kv_heads=4,
        intermediate=3072,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.from_pretrained(folder)
        AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def build(checkpoint: Checkpoint, way: str) -> nn.Module:
    """A sharded model."""
    once = way == WAYS[0]
    model = load_once(checkpoint, False, 0, "eager") if once else checkpoint.model(False, 0, "eager")
    anatomy = Anatomy.of(model)
    values = take_values(model) if once else {}
    trained = [name for group, names in anatomy.groups.items() if group.startswith("llm") for name in names]
    hold_masters(model, trained, full_precision=False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)  # FSDP2 wants one dtype of what trains in a unit
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for path in (*anatomy.decoder_layers, *anatomy.vision_blocks):
        fully_shard(model.get_submodule(path), mesh=mesh)
    root = fully_shard(model, mesh=mesh)
    if once:
        fill_(model, values, torch.device("cpu"))
    settle(root)
    return model


def load(folder: Path, way: str, out: Path) -> None:
    """One process of several: loads, and writes what it took."""
    dist.init_process_group("gloo")
    logging.disable_progress_bar()
    checkpoint = Checkpoint(str(folder))
    checkpoint.skeleton(torch.bfloat16, "eager")  # what transformers imports for it does not count
    dist.barrier()
    memory, began = Memory(), time.perf_counter()
    model = build(checkpoint, way)
    seconds, peak = time.perf_counter() - began, memory.peak()
    shards = sum(local(p).numel() * p.element_size() for p in model.parameters())
    weights = fingerprint(checksums(dict(model.named_parameters())))
    taken = {"peak": peak, "seconds": seconds, "shards": shards, "weights": weights}
    (out / f"{dist.get_rank()}.json").write_text(json.dumps(taken))


def measured(folder: Path, way: str, processes: int) -> list[dict[str, Any]]:
    """What each process took."""
    with tempfile.TemporaryDirectory() as out:
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        worker = ["-m", "--", "tests.benchmarks.sharded_loading", "--load", str(folder), way, out]
        done = subprocess.run(
            [sys.executable, *torchrun, *worker], stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return [json.loads((Path(out) / f"{rank}.json").read_text()) for rank in range(processes)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--load", nargs=3, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.load:
        load(Path(words.load[0]), words.load[1], Path(words.load[2]))
        return
    taken: dict[str, list[list[dict[str, Any]]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), words.layers)
        for _ in range(words.rounds):
            for way in WAYS:
                taken[way].append(measured(Path(folder), way, words.processes))
    weights = {one["weights"] for rounds in taken.values() for ranks in rounds for one in ranks}
    print(machine())
    print(
        f"{words.processes} processes, medians of {words.rounds} rounds; weights equal: {len(weights) == 1}"
    )
    for way, rounds in taken.items():
        print(f"{way}: {statistics.median(ranks[0]['seconds'] for ranks in rounds):.1f} s")
        for rank in range(words.processes):
            peak = statistics.median(ranks[rank]["peak"] for ranks in rounds)
            shards = rounds[0][rank]["shards"]
            of_it = f"{shards / 1e6:,.0f} MB of it shards"
            print(f"  process {rank}: {peak / 1e6:,.0f} MB at most, {of_it} ({peak / shards:.2f} x)")


if __name__ == "__main__":
    main()
