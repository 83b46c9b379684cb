"""The table of README: what training a model of 7 billion parameters costs on one GPU, beside `transformers.Trainer`.

Random weights of published shapes (`tests.benchmarks.published`), bf16, samples of one picture, a prompt and a
short answer. For every way a fresh process: samples and tokens a second, model FLOPs utilisation, peak memory. A
model's operations are those that one step needs (`lmmcl.structure.flops`, logits at answer tokens only, no teacher and
nothing computed twice), the same number for all who train the same tensors; utilisation is their rate over the
device's dense bf16 peak. Last, greedy answers: new tokens a second. Without a GPU a tiny model of the same kind
goes all the way on the CPU, and no number counts.

    python -m tests.benchmarks.gpu [--models llava-onevision-qwen2-7b,llava-next-llama3-8b] [--batch 8] [--steps 20]
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from lmmcl.data.batches.collate import answer_tokens
from lmmcl.evaluation.generate import generate
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.flops import Flops
from lmmcl.structure.recipe import Recipe
from tests.benchmarks.contestants import Work, compete, data_of, ordered_rows
from tests.benchmarks.fresh_process import answer, run_fresh
from tests.benchmarks.machine import machine
from tests.benchmarks.published import write_published
from tests.benchmarks.vocabulary import Shape, write_checkpoint, write_samples

MODELS = "llava-onevision-qwen2-7b,llava-next-llama3-8b"
PEAKS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "A6000": 155, "RTX 4090": 165}
"""Dense bf16 TFLOPS, as the maker states them."""
WARM_UP, LENGTHS, NEW_TOKENS = 5, ((24, 40), (4, 8)), 32


@dataclass(frozen=True)
class Way:
    """One row of the table.

    Args:
        title: what it is called.
        recipe: what trains.
        with_: mitigations.
        optimizer: ``model.optimizer``.
        name: the contestant.
    """

    title: str
    recipe: str
    with_: tuple[str, ...] = ()
    optimizer: str = "adamw"
    name: str = "lmmcl"


WAYS = (
    Way("sa_proj", "sa_proj"),
    Way("sa_proj, LwF", "sa_proj", ("LwF",)),
    Way("Trainer, sa_proj", "sa_proj", name="Trainer"),
    Way("mlp_gate_up", "mlp_gate_up"),
    Way("mlp_gate_up, LwF", "mlp_gate_up", ("LwF",)),
    Way("Trainer, mlp_gate_up", "mlp_gate_up", name="Trainer"),
    Way("LoRA on mlp", "mlp", ("LoRA",)),
    Way("LoRA on mlp, LwF", "mlp", ("LoRA", "LwF")),
    Way("llm, 8-bit moments", "llm", optimizer="adamw_8bit"),
    Way("llm, offloaded moments", "llm", optimizer="adamw_offload"),
    Way("Trainer, llm", "llm", name="Trainer"),
)


def count(work: Work) -> tuple[float, float]:
    """Tokens and operations of a mean sample, from the shapes of the batches that are trained on."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(_config(work), dtype=torch.bfloat16)
    anatomy, parameters = Anatomy.of(model), dict(model.named_parameters())
    flops = Flops(model, anatomy, parameters, Recipe.parse(work.recipe).resolve(anatomy))
    data = data_of(work)
    data.attach(AutoProcessor.from_pretrained(work.model), None)
    data.begin(0, data.train_rows(0), 0, 0)
    tokens, operations = [], []
    vision = _config(work).vision_config
    patches = (vision.image_size // vision.patch_size) ** 2
    for batch in data.loader(0, 1):
        samples, length = batch.inputs["input_ids"].shape
        tokens.append(int(batch.inputs["attention_mask"].sum()) / samples)
        total = flops.count_positions(samples, length, 0, True) + flops.count_patches(
            samples * patches, patches, True
        )
        total += flops.count_head(answer_tokens(batch) * _config(work).get_text_config().vocab_size, True)
        operations.append(total / samples)
    return statistics.mean(tokens), statistics.mean(operations)


def _config(work: Work) -> Any:
    return AutoConfig.from_pretrained(work.model)


def evaluate(work: Work) -> dict[str, float]:
    """New tokens a second of greedy answers, all of the greatest length."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    processor = AutoProcessor.from_pretrained(work.model)
    model: Any = AutoModelForImageTextToText.from_pretrained(work.model, dtype=torch.bfloat16)
    model = model.to(device).eval()
    model.generation_config.eos_token_id = None
    data = data_of(work)
    data.attach(processor, None)
    rows = list(data.train_rows(0))
    seconds = []
    for turn in range(3):
        batch = data.collator.prompts(rows[turn * work.batch : (turn + 1) * work.batch]).to(device)
        begin = time.perf_counter()
        with torch.no_grad():
            generate(model, processor, batch, NEW_TOKENS)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return {"tokens": work.batch * NEW_TOKENS / statistics.median(seconds[1:])}


def measure(task: str, **settings: Any) -> Mapping[str, float]:
    """One row in this process: a contestant's name, or ``evaluation``."""
    if task == "evaluation":
        return evaluate(Work(**settings))
    return compete(task, **settings)


def peak_of(stated: float | None) -> float | None:
    """The device's peak in operations a second; None: unknown."""
    if stated is not None or not torch.cuda.is_available():
        return None if stated is None else stated * 1e12
    name = torch.cuda.get_device_name()
    return next((peak * 1e12 for key, peak in PEAKS.items() if key in name), None)


def show(model: Path, folder: Path, arguments: argparse.Namespace, shape: Shape) -> None:
    """All rows of one model."""
    side = 384 if torch.cuda.is_available() else 64
    samples = (WARM_UP + arguments.steps) * arguments.batch * 3 // 2
    rows = write_samples(folder / f"{model.name}-rows", shape, samples, lengths=LENGTHS, side=side)
    peak = peak_of(arguments.peak)
    print(f"\n{model.name}, batches of {arguments.batch}:\n")
    print("| | samples/s | tokens/s | utilisation | peak, GB |")
    print("|---|---|---|---|---|")
    for way in WAYS:
        common = (way.recipe, arguments.steps, WARM_UP, arguments.batch, way.with_, way.optimizer)
        work = Work(str(model), str(rows), "", *common)  # type: ignore[arg-type]  # a Way holds plain words
        ordered = rows.with_name("ordered.jsonl")
        if way.name != "lmmcl":
            ordered.write_text("".join(json.dumps(row) + "\n" for row in ordered_rows(work)))
        tokens, operations = count(work)
        with tempfile.TemporaryDirectory(dir=folder) as out:
            mine = asdict(work) | {"out": str(Path(out) / "run")}
            mine["rows"] = str(rows if way.name == "lmmcl" else ordered)
            try:
                found = run_fresh("tests.benchmarks.gpu", {"task": way.name, **mine})
            except RuntimeError as error:
                if "out of memory" not in str(error).lower():
                    raise
                print(f"| {way.title} | out of memory | | | |", flush=True)
                continue
        used = "" if peak is None else f"{100 * found['speed'] * operations / peak:.1f} %"
        speed, memory = found["speed"], found["peak"] / 1e9
        print(f"| {way.title} | {speed:.2f} | {speed * tokens:.0f} | {used} | {memory:.1f} |", flush=True)
    work = Work(str(model), str(rows), "", "full", arguments.steps, WARM_UP, arguments.batch)
    found = run_fresh("tests.benchmarks.gpu", {"task": "evaluation", **asdict(work)})
    print(f"\nanswers of {NEW_TOKENS} tokens: {found['tokens']:.0f} new tokens a second")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=MODELS, help="of tests/real_configs")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20, help="timed ones, a multiple of 5")
    parser.add_argument("--peak", type=float, help="TFLOPS of the device, where its name is not known here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if torch.cuda.is_available():
            for name in arguments.models.split(","):
                model = write_published(folder / name, name)
                words = _config(Work(str(model), "", "", "full", 1, 1, 1)).get_text_config().vocab_size
                show(model, folder, arguments, Shape(words))
                for file in model.glob("*.safetensors"):  # tens of GB
                    file.unlink()
            print(f"\n{torch.cuda.get_device_name()}")
        else:
            print("No GPU here: a tiny model goes the same way on the CPU; none of these numbers counts.")
            arguments.batch, arguments.steps = 4, 5
            shape = Shape(1_000, width=64, layers=2)
            show(write_checkpoint(folder / "tiny", shape), folder, arguments, shape)
    print(machine("transformers", "lightning", "peft"))


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        answer(measure)
    else:
        main()
