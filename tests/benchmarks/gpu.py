"""The table of README: what training a model of 7 billion parameters costs on one GPU, beside `transformers.Trainer`.

Random weights of published shapes (`tests.benchmarks.published`), bf16, samples of one picture, a prompt and a
short answer. For every row a fresh process: samples and tokens a second, model FLOPs utilisation, peak memory. A
model's operations are those that one step needs (`lmmcl.structure.flops`, logits at answer tokens only, no teacher and
nothing computed twice), the same number for all who train the same tensors; utilisation is their rate over the
device's dense bf16 peak. Last, greedy answers: new tokens a second. Without a GPU a tiny model of the same kind
goes all the way on the CPU, and no number counts.

A row that was measured is written down at once, and not measured again by a command that names the same ``--results``:
where time is short, some ``--rows`` or ``--minutes`` at a time. The weights (16 GB a model) stay in ``--folder``.

    python -m tests.benchmarks.gpu [--models llava-onevision-qwen2-7b,llava-next-llama3-8b] [--batch 8] [--steps 20]
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

import lmmcl.callbacks
from lmmcl import ContinualLMM
from lmmcl.data.batches.collate import answer_tokens
from lmmcl.evaluation.generate import generate
from lmmcl.preflight.adapters import Adapted
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.flops import Flops
from lmmcl.weights import parameters_of
from tests.benchmarks.contestants import Work, compete, data_of, ordered_rows
from tests.benchmarks.fresh_process import answer, run_fresh
from tests.benchmarks.machine import machine
from tests.benchmarks.published import write_published
from tests.benchmarks.vocabulary import Shape, write_checkpoint, write_samples

MODELS = "llava-onevision-qwen2-7b,llava-next-llama3-8b"
PEAKS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "A6000": 155, "RTX 4090": 165}
"""Dense bf16 TFLOPS, as the maker states them."""
WARM_UP, LENGTHS, NEW_TOKENS, ANSWERED = 5, ((24, 40), (4, 8)), 32, 32
_WHOLE = "whole"
"""An empty file in a model's folder, written last."""


@dataclass(frozen=True)
class Way:
    """One row of the table.

    Args:
        title: what it is called.
        recipe: what trains.
        with_: mitigations.
        optimizer: ``model.optimizer``.
        name: the contestant, or ``evaluation``.
    """

    title: str
    recipe: str
    with_: tuple[str, ...] = ()
    optimizer: str = "adamw"
    name: str = "lmmcl"


WAYS = (
    Way("mlp_gate_up", "mlp_gate_up"),
    Way("mlp_gate_up, LwF", "mlp_gate_up", ("LwF",)),
    Way("Trainer, mlp_gate_up", "mlp_gate_up", name="Trainer"),
    Way("sa_proj", "sa_proj"),
    Way("sa_proj, LwF", "sa_proj", ("LwF",)),
    Way("Trainer, sa_proj", "sa_proj", name="Trainer"),
    Way("LoRA on mlp", "mlp", ("LoRA",)),
    Way("LoRA on mlp, LwF", "mlp", ("LoRA", "LwF")),
    Way("llm, 8-bit moments", "llm", optimizer="adamw_8bit"),
    Way("llm, offloaded moments", "llm", optimizer="adamw_offload"),
    Way("Trainer, llm", "llm", name="Trainer"),
    Way("answers", "full", name="evaluation"),
)


@cache
def count(work: Work) -> tuple[float, float]:
    """Tokens and operations of a mean sample, from the shapes of the batches that are trained on."""
    config = _config(work)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    anatomy, data = Anatomy.of(model), data_of(work)
    module = ContinualLMM(work.model, recipe=work.recipe, run=work.out)
    adapters = [getattr(lmmcl.callbacks, name)() for name in work.with_ if name != "LwF"]
    adapted = Adapted(module, data, model, anatomy, adapters)
    flops = Flops(model, anatomy, parameters_of(model), adapted.trained[0])
    data.attach(module.processor, None)
    data.begin(0, data.train_rows(0), 0, 0)
    tokens, operations = [], []
    patches = (config.vision_config.image_size // config.vision_config.patch_size) ** 2
    for batch in data.loader(0, 1):
        samples, length = batch.inputs["input_ids"].shape
        tokens.append(int(batch.inputs["attention_mask"].sum()) / samples)
        total = flops.count_positions(samples, length, 0, True)
        total += flops.count_patches(samples * patches, patches, True)
        total += flops.count_head(answer_tokens(batch) * config.get_text_config().vocab_size, True)
        operations.append(total / samples)
    return statistics.mean(tokens), statistics.mean(operations)


def _config(work: Work) -> Any:
    return AutoConfig.from_pretrained(work.model)


def evaluate(work: Work) -> dict[str, float]:
    """New tokens a second of greedy answers, all of the greatest length."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    processor = AutoProcessor.from_pretrained(work.model)
    with device:
        model: Any = AutoModelForImageTextToText.from_pretrained(work.model, dtype=torch.bfloat16).eval()
    model.generation_config.eos_token_id = None
    data = data_of(work)
    data.attach(processor, None)
    rows = list(data.train_rows(0))
    number = min(ANSWERED, len(rows) // 3)
    seconds = []
    for turn in range(3):
        prompts = data.collator.prompts(rows[turn * number : (turn + 1) * number])
        begin = time.perf_counter()
        with torch.no_grad():
            generate(model, processor, prompts.to(device), NEW_TOKENS)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    return {"tokens": number * NEW_TOKENS / statistics.median(seconds[1:]), "peak": peak}


def measure(task: str, **settings: Any) -> Mapping[str, float]:
    """In a process of its own: writes a model, or measures one row, a contestant's or ``evaluation``."""
    if task == "write":  # a process that ends leaves nothing on the GPU
        write_published(Path(settings["folder"]), settings["name"])
        return {}
    if task == "evaluation":
        return evaluate(Work(**settings))
    return compete(task, **settings)


def peak_of(stated: float | None) -> float | None:
    """The device's peak in operations a second; None: unknown."""
    if stated is not None or not torch.cuda.is_available():
        return None if stated is None else stated * 1e12
    name = torch.cuda.get_device_name()
    return next((peak * 1e12 for key, peak in PEAKS.items() if key in name), None)


def measured(way: Way, model: Path, rows: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One row: what its process found, or why it found nothing."""
    begun = time.monotonic()
    common = (way.recipe, arguments.steps, WARM_UP, arguments.batch, way.with_, way.optimizer)
    work = Work(str(model), str(rows), "", *common)  # type: ignore[arg-type]  # a Way holds plain words
    found: dict[str, Any] = {"row": way.title, "model": model.name, "batch": work.batch, "steps": work.steps}
    settings = asdict(work)
    if way.name == "Trainer":
        ordered = rows.with_name("ordered.jsonl")
        ordered.write_text("".join(json.dumps(row) + "\n" for row in ordered_rows(work)))
        settings["rows"] = str(ordered)
    if way.name != "evaluation":
        found["tokens"], found["operations"] = count(work)
    with tempfile.TemporaryDirectory(dir=rows.parent) as out:
        try:
            settings["out"] = str(Path(out) / "run")
            found |= run_fresh("tests.benchmarks.gpu", {"task": way.name, **settings})
        except RuntimeError as error:  # told in the table: the other rows are worth measuring
            short = "out of memory" in str(error).lower()
            found["failed"] = "out of memory" if short else str(error)
            print(str(error)[-4000:], file=sys.stderr)
    return found | {"seconds": round(time.monotonic() - begun)}


def line(one: Mapping[str, Any], peak: float | None) -> str:
    """A row as the table has it."""
    if "failed" in one:
        words = str(one["failed"]).strip().splitlines() or ["failed"]
        return f"| {one['row']} | {words[-1][:80]} | | | |"
    memory = f"{one['peak'] / 1e9:.1f}"
    if "speed" not in one:
        return f"| {one['row']} | | {one['tokens']:.0f} new | | {memory} |"
    used = "" if peak is None else f"{100 * one['speed'] * one['operations'] / peak:.1f} %"
    return f"| {one['row']} | {one['speed']:.2f} | {one['speed'] * one['tokens']:.0f} | {used} | {memory} |"


def show(model: Path, ways: Sequence[Way], shape: Shape, arguments: argparse.Namespace, until: float) -> None:
    """The rows of one model: those that were measured before, and then the others, as long as there is time."""
    side = 384 if torch.cuda.is_available() else 64
    samples = (WARM_UP + arguments.steps) * arguments.batch * 3 // 2
    rows = write_samples(model.parent / f"{model.name}-rows", shape, samples, lengths=LENGTHS, side=side)
    peak = peak_of(arguments.peak)
    print(f"\n{model.name}, batches of {arguments.batch}, answers in batches of {ANSWERED}:\n")
    print("| | samples/s | tokens/s | utilisation | peak, GB |")
    print("|---|---|---|---|---|")
    key = {"model": model.name, "batch": arguments.batch, "steps": arguments.steps}
    for way in ways:
        known = [one for one in _read(arguments.results) if one.items() >= {**key, "row": way.title}.items()]
        if not known and time.monotonic() < until:
            known = [measured(way, model, rows, arguments)]
            with arguments.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(known[0]) + "\n")
        print(line(known[-1], peak) if known else f"| {way.title} | not measured | | | |", flush=True)


def _read(results: Path) -> list[dict[str, Any]]:
    """Rows that were measured; one that failed is tried again, unless memory was short."""
    lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    return [one for one in map(json.loads, lines) if one.get("failed", "out of memory") == "out of memory"]


def main() -> None:
    titles = "; ".join(way.title for way in WAYS)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=MODELS, help="of tests/real_configs")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20, help="timed ones, a multiple of 5")
    parser.add_argument("--peak", type=float, help="TFLOPS of the device, where its name is not known here")
    parser.add_argument("--rows", help=f"separated by semicolons [all]: {titles}")
    parser.add_argument("--minutes", type=float, default=1e9, help="no row is begun after so many")
    parser.add_argument("--folder", type=Path, help="for models and samples, and stays [a temporary one]")
    parser.add_argument("--results", type=Path, help="JSONL [results.jsonl in the folder]")
    arguments = parser.parse_args()
    until = time.monotonic() + 60 * arguments.minutes
    wanted = [way.strip() for way in (arguments.rows or titles).split(";")]
    if unknown := set(wanted) - {way.title for way in WAYS}:
        parser.error(f"--rows: there is no {', '.join(sorted(unknown))}")
    ways = [way for way in WAYS if way.title in wanted]
    with tempfile.TemporaryDirectory() as place:
        folder = arguments.folder or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        arguments.results = arguments.results or folder / "results.jsonl"
        if torch.cuda.is_available():
            for name in arguments.models.split(","):
                model = folder / name
                if not (model / _WHOLE).exists():
                    run_fresh("tests.benchmarks.gpu", {"task": "write", "folder": str(model), "name": name})
                    (model / _WHOLE).touch()
                words = _config(Work(str(model), "", "", "full", 1, 1, 1)).get_text_config().vocab_size
                show(model, ways, Shape(words), arguments, until)
                if arguments.folder is None:
                    shutil.rmtree(model)  # tens of GB, before the next one
            print(f"\n{torch.cuda.get_device_name()}")
        else:
            print("No GPU here: a tiny model goes the same way on the CPU; none of these numbers counts.")
            arguments.batch, arguments.steps = 4, 5
            shape = Shape(1_000, width=64, layers=2)
            show(write_checkpoint(folder / "tiny", shape), ways, shape, arguments, until)
    print(machine("transformers", "lightning", "peft"))


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        answer(measure)
    else:
        main()
