"""A whole run folder that never ran: all that a report can show, without a model."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from lmmcl.cost import CostLog, StageCost
from lmmcl.evaluation.answer_log import AnswerLog, SampledAnswer
from lmmcl.evaluation.choices import Choice, Choices
from lmmcl.evaluation.flipped_examples import FLIPS, picture_name, read_flips
from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.predictions import PredictionStore
from lmmcl.evaluation.probe_log import ProbeLog, ProbeRow
from lmmcl.evaluation.result import Example, TaskResult
from lmmcl.run.checkpoint import as_json
from tests.report.fake_run import COSTS, HELD_OUT, LEARNED, TARGETS, result

NASTY = '<script>alert(1)</script> & "B"'
STEPS = 40


def picture(seed: int) -> Image.Image:
    """Some shapes on paper."""
    generator = np.random.default_rng(seed)
    made = Image.new("RGB", (96, 96), "#f4efe6")
    draw = ImageDraw.Draw(made)
    for _ in range(6):
        x, y, r = (int(value) for value in generator.integers(10, 80, size=3))
        colour = tuple(int(value) for value in generator.integers(40, 220, size=3))
        draw.ellipse((x, y, x + r // 3 + 4, y + r // 3 + 4), fill=colour)
    return made


def _worded(found: TaskResult) -> TaskResult:
    """Answers that are words, some of them dangerous to a page."""
    said = ["dog", "three", "left of the box", NASTY, "=1+1", ""]
    examples = [
        Example(
            e.id,
            f"word {i % 7}" if e.score else said[i % len(said)],
            f"word {i % 7}",
            e.score,
            e.parsed,
            e.parts,
        )
        for i, e in enumerate(found.examples)
    ]
    return TaskResult(found.task, examples)


def config(
    recipe: str, seed: int, callbacks: Sequence[Any], tasks: Sequence[str], held_out: Sequence[str], lr: float
) -> dict[str, Any]:
    """What a run's ``config.json`` holds."""

    def task(name: str) -> dict[str, Any]:
        return {
            "name": name,
            "rows": "ab" * 32,
            "epochs": 1,
            "lr": None,
            "recipe": None,
            "scorer": "lmmcl.scorers.letter",
        }

    return {
        "callbacks": [
            ["lmmcl.callbacks.held_out_evaluation.HeldOutEvaluation", {"batch_size": 32}],
            *callbacks,
        ],
        "data": {
            "batch_size": 32,
            "seed": seed,
            "max_eval_samples": 100,
            "scoring": "robust",
            "tasks": [task(name) for name in tasks],
            "held_out": [task(name) for name in held_out],
        },
        "model": {"path": "mini", "recipe": recipe, "lr": lr, "seed": seed, "schedule": "cosine"},
        "precision": "bf16-mixed",
    }


def fake_folder(
    folder: Path,
    recipe: str = "full",
    *,
    like: str | None = None,
    seed: int = 0,
    stages: int = 5,
    n: int = 60,
    callbacks: Sequence[Any] = (),
    targets: Sequence[str] = TARGETS,
    held_out: Sequence[str] = HELD_OUT,
    lr: float = 1e-3,
    shift: float = 0.0,
    inside: bool = False,
) -> Path:
    """Writes a run.

    Args:
        folder: made.
        recipe: as the config says.
        like: whose numbers it has, see `COSTS`; None: the recipe's.
        seed: of the run; the same examples are asked with every seed.
        stages: so many are measured.
        n: examples a task.
        callbacks: of the config, beside the one that measures.
        targets: a part of `TARGETS`, in their order.
        held_out: a part of `HELD_OUT`.
        lr: of the config.
        shift: points that the held-out tasks lose beside.
        inside: also write probes, sampled answers, choices, questions and pictures of flips, and costs.
    """
    like = like or recipe
    spread = np.random.default_rng(1).uniform(0.4, 1.7, size=len(HELD_OUT))
    moved = np.random.default_rng([7, seed]).normal(0, 1.5, size=2)
    matrix, store = Matrix(list(targets), list(held_out)), PredictionStore(folder / "predictions")
    for k in range(stages + 1):
        name = f"{k:02}-{(['base', *targets])[k]}"
        gain = 0.85 if like == "sa_proj" else 1.0
        scores = {task: gain * LEARNED[k][TARGETS.index(task)] + (moved[0] if k else 0) for task in targets}
        cost = COSTS[like][k] + ((moved[1] - shift) if k else 0)
        scores |= {
            task: 91 - 2 * HELD_OUT.index(task) + cost * spread[HELD_OUT.index(task)] for task in held_out
        }
        found = [_worded(result(task, score, k, n, 0, 0.02 * (k == 2))) for task, score in scores.items()]
        matrix.put(k, name, found)
        for one in found:
            store.write(name, "key", one)
    matrix.save(folder)
    (folder / "config.json").write_bytes(as_json(config(recipe, seed, callbacks, targets, held_out, lr)))
    (folder / "environment.json").write_bytes(
        as_json({"python": "3.11", "packages": {"torch": "2.13"}, "processes": 1})
    )
    _logs(folder, targets[:stages], inside)
    if inside:
        _inside(folder, matrix, n)
    return folder


def _logs(folder: Path, taught: Sequence[str], costs: bool) -> None:
    (folder / "logs").mkdir(exist_ok=True)
    lines = ["step,task,loss,lr,grad_norm,held_out_loss,held_out_kl"]
    for k, task in enumerate(taught):
        for i in range(STEPS):
            step = k * STEPS + i + 1
            canary = f"{0.4 + 0.1 * k + 0.01 * i},{0.2 * k + 0.01 * i}" if step % 10 == 0 else ","
            lines.append(f"{step},{task},{3 * math.exp(-i / 9) + 0.4:.4f},0.001,1.0,{canary}")
    (folder / "logs" / "metrics.csv").write_text("\n".join(lines) + "\n")
    if costs:
        log = CostLog(folder / "logs", write=True)
        log.begin(None)
        rows = [StageCost(0, "00-base", "evaluate", 20.0, 1300, 90_000, 10**12, 10**9)]
        for k, task in enumerate(taught, 1):
            stage = f"{k:02}-{task}"
            rows.append(StageCost(k, stage, "train", 40.0, 1280, 100_000, 4 * 10**12, 2 * 10**9))
            rows.append(StageCost(k, stage, "evaluate", 20.0, 1300, 90_000, 10**12, 10**9))
        log.put(rows, "9")


def _inside(folder: Path, matrix: Matrix, n: int) -> None:
    log = ProbeLog(folder, "NumberTokenBias")
    log.describe(
        "NumberTokenBias",
        "Bias to number tokens",
        "probability",
        "Mean probability of number tokens on caption prompts.",
    )
    for stage in matrix.finals:
        step = STEPS * stage.index
        values = {"numbers": 0.02 + 0.1 * stage.index, "letters": 0.05 + 0.01 * (stage.index % 3)}
        log.put(ProbeRow(stage.index, stage.name, step, "stage", values))
        if stage.index:
            log.put(
                ProbeRow(stage.index, stage.name, step - STEPS + 10, "step", {"numbers": 0.05 * stage.index})
            )
    depth = ProbeLog(folder, "LayerContribution")
    depth.describe("LayerContribution", "What each layer adds", "norm", "How far each part moved the logits.")
    for stage in matrix.finals:
        values = {
            f"layer {i} {kind}": 0.1 * stage.index * (i + j)
            for i in range(6)
            for j, kind in enumerate(("attention", "MLP"))
        }
        depth.put(ProbeRow(stage.index, stage.name, STEPS * stage.index, "stage", values))
    answers = AnswerLog.of(folder, "SampledAnswers")
    for i, task in enumerate(("chart", "scene", "count")):
        path = answers.picture(f"{task}-1", picture(i), 96)
        for stage in matrix.finals:
            said = ["a red dog left of a box", "a red dog left of a box", "three dogs", NASTY, "", "a dog"][
                stage.index
            ]
            row = SampledAnswer(
                stage.index,
                stage.name,
                task,
                "1",
                f"What is in the {task}? {NASTY}",
                "a red dog",
                said,
                float(stage.index < 2),
                path,
            )
            answers.put(stage.index, [*(a for a in answers.read() if a.stage == stage.index), row])
    tried = [
        {
            "alpha": alpha,
            "scores": {task: 60 + 20 * alpha - 4 * i for i, task in enumerate(("diagram", "chart"))},
        }
        for alpha in (0.0, 0.25, 0.5, 1.0)
    ]
    (folder / "choices").mkdir()
    lines = [{"stage": 1, "name": "01-species", "chosen": 2, "candidates": tried}]
    (folder / "choices" / "WiSEFT.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert Choices(folder, "WiSEFT").read() == [Choice(1, "01-species", 2, tried)]
    for one in [flip for flip in read_flips(folder) if flip.task == "chart"][:4]:
        kept = folder / FLIPS / one.task
        kept.mkdir(parents=True, exist_ok=True)
        picture(len(one.id)).save(kept / picture_name(one.id))
        asked = (
            json.loads((kept / "questions.json").read_text()) if (kept / "questions.json").exists() else {}
        )
        (kept / "questions.json").write_text(json.dumps({**asked, one.id: f"How many bars? {NASTY}"}))


def with_variant(folder: Path) -> Path:
    """Adds a row of weights that were measured before a mitigation changed them."""
    matrix = Matrix.load(folder)
    stage = matrix.finals[1]
    found = [replace(result(task, 55, 9, 20, 0)) for task in matrix.tasks]
    matrix.put(stage.index, stage.name, found, variant="before WiSEFT")
    matrix.save(folder)
    return folder
