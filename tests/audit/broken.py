"""A tiny model, what a tuning that broke it left, and questions to which each of the two knows its own answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoModelForImageTextToText, AutoProcessor

from lmmcl.audit import Auditor, read_questions
from lmmcl.data.batches.collate import Collator
from lmmcl.data.parse import parse_task
from lmmcl.evaluation.generate import generate
from lmmcl.loading import Checkpoint
from lmmcl.scorers.normalise import normalise
from lmmcl.structure.anatomy import Anatomy

WORDS = [
    "red",
    "blue",
    "green",
    "circle",
    "square",
    "star",
    "left",
    "above",
    "zebra",
    "seven",
    "three",
    "north",
    "chart",
]
TOKENS = 3


@dataclass(frozen=True)
class Broken:
    """Two models and a YAML: ``held`` asks for the base's answers, ``new`` for the tuned model's."""

    base: Path
    tuned: Path
    data: Path


def edited(base: Path, to: Path, **changes: object) -> Path:
    """A copy with other keys in its config.json."""
    shutil.copytree(base, to)
    config = json.loads((to / "config.json").read_text())
    config["text_config"] |= changes
    (to / "config.json").write_text(json.dumps(config))
    return to


def moved_copy(base: Path, to: Path, noise: Mapping[str, float], seed: int = 0) -> Path:
    """A copy of a model in which some groups are moved by noise."""
    model = AutoModelForImageTextToText.from_pretrained(base, dtype="auto")
    parameters = dict(model.named_parameters())
    generator = torch.Generator().manual_seed(seed)
    for group, scale in noise.items():
        for name in Anatomy.of(model).groups[group]:
            value = parameters[name].data
            value += scale * torch.randn(value.shape, generator=generator).to(value.dtype)
    shutil.copytree(base, to)
    model.save_pretrained(to)
    return to


def rows_of(count: int, name: str, critical: Sequence[int] = ()) -> list[dict[str, Any]]:
    """Questions of two words; some are marked critical."""
    return [
        {
            "id": f"{name}{i}",
            "question": f"{WORDS[i % len(WORDS)]} {WORDS[5 * i % 7]} {i}",
            "answer": "?",
            **({"critical": True} if i in critical else {}),
        }
        for i in range(count)
    ]


def answers(folder: Path, file: Path) -> dict[str, str]:
    """What a plain transformers model says, by row."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    task = parse_task({"task": "any", "path": str(file), "split": {"dev": 0.5, "test": 0.5}}, held_out=True)
    rows = [*task.source.split("dev"), *task.source.split("test")]
    batch = Collator(AutoProcessor.from_pretrained(folder), None).prompts(rows)
    with torch.no_grad():
        said = generate(model, AutoProcessor.from_pretrained(folder), batch, TOKENS)
    return dict(zip((row.id for row in rows), said, strict=True))


def write_data(
    folder: Path, golds: Mapping[str, Path], critical: Sequence[int] = (), count: int = 32
) -> Path:
    """A YAML of tasks by name, each with the answers of a model as gold; ``new`` is a target."""
    folder.mkdir(parents=True, exist_ok=True)
    listed: dict[str, list[dict[str, Any]]] = {"targets": [], "held_out": []}
    for name, model in golds.items():
        file = folder / f"{name}.jsonl"
        rows = rows_of(count, name, critical if name == "held" else ())
        file.write_text("\n".join(map(json.dumps, rows)))
        said = answers(model, file)
        readable = [row for row in rows if normalise(said[row["id"]])]
        file.write_text("\n".join(json.dumps({**row, "answer": said[row["id"]]}) for row in readable))
        spec = {"task": name, "path": str(file), "split": {"dev": 0.5, "test": 0.5}, "max_new_tokens": TOKENS}
        listed["targets" if name == "new" else "held_out"].append(spec)
    path = folder / "eval.yaml"
    path.write_text(yaml.safe_dump(listed))
    return path


def auditor(base: Path, tuned: Path, data: Path, folder: Path, precision: Any = "32-true") -> Auditor:
    """An auditor of two folders on the CPU."""
    return Auditor(
        Checkpoint(str(base)), Checkpoint(str(tuned)), read_questions(data), folder, 64, precision, "cpu"
    )
