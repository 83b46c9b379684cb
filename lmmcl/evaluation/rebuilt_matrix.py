"""A damaged matrix made again: it sums up the answers, which a run keeps by stage and task with their hashes."""

import csv
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.predictions import INDEX
from lmmcl.evaluation.result import TaskResult
from lmmcl.run.run_folder import RunFolder


def was_measured(folder: Path) -> bool:
    """Whether a run has written a stage that it has measured, so that it had a matrix.

    Args:
        folder: of the run.
    """
    run = RunFolder(folder)
    return any((run.predictions / stage / INDEX).exists() for stage in run.stages())


def rebuilt_matrix(folder: Path) -> Matrix:
    """The matrix that a run's config and answers make.

    A row that a kill left half-measured, of a stage that is not written yet, is left out: the run measures it again.

    Args:
        folder: of the run.

    Raises:
        ValueError: not all that it needs is there and whole; says what is not.
    """
    run = RunFolder(folder)
    config = _plain(run.config)
    try:
        targets, held_out = ([task["name"] for task in config["data"][key]] for key in ("tasks", "held_out"))
        mitigations = [plain.get("name", str(kind).rpartition(".")[2]) for kind, plain in config["callbacks"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{run.config} is damaged") from error
    written = run.stages()
    measured = sorted(index.parent.name for index in run.predictions.glob(f"*/{INDEX}"))
    if lost := [stage for stage in written if stage not in measured]:
        raise ValueError(f"{run.predictions / lost[0]} holds no answers")
    results = {stage: _results(run.predictions / stage) for stage in measured}
    tasks = {result.task for found in results.values() for result in found}
    matrix = Matrix(targets, [*held_out, *_others(tasks - {*targets, *held_out}, folder / "matrix.csv")])
    for stage, found in results.items():
        index, name, variant = _row(stage, targets, mitigations)
        if len(found) == len(tasks) or name in written:
            matrix.put(index, name, found, variant=variant)
    return matrix


def _results(folder: Path) -> list[TaskResult]:
    """All that a stage answered, verified."""
    found = []
    for task, entry in _plain(folder / INDEX).items():
        file = folder / f"{task}.jsonl"
        try:
            data = file.read_bytes()
            whole = hashlib.sha256(data).hexdigest() == entry["sha256"]
        except (OSError, KeyError, TypeError) as error:
            raise ValueError(f"{file} is missing, or its index damaged") from error
        if not whole:
            raise ValueError(f"{file} is damaged")
        try:
            found.append(TaskResult.from_jsonl(task, data))
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"{file} was written by another version of lmmcl ({error})") from error
    return found


def _plain(file: Path) -> Mapping[str, Any]:
    try:
        held = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is missing or damaged") from error
    if not isinstance(held, dict):
        raise ValueError(f"{file} is damaged")
    return held


def _row(folder: str, targets: Sequence[str], mitigations: Sequence[str]) -> tuple[int, str, str]:
    """Index, name and variant of the row whose answers lie in a folder; see `lmmcl.position.Stage.predictions`."""
    names = [f"{index:02d}-{target}" for index, target in enumerate(("base", *targets))]
    variants = {f"before-{name}".replace(" ", "-"): f"before {name}" for name in mitigations}
    for index, name in enumerate(names):
        variant = folder.removeprefix(f"{name}-") if folder.startswith(f"{name}-") else None
        if folder == name:
            return index, name, ""
        if variant in variants:
            return index, name, variants[variant]
        if variant is not None and re.fullmatch(r"step-\d+", variant):
            return index, name, variant.replace("-", " ")
    raise ValueError(f"predictions/{folder} is the row of no stage of its config")


def _others(tasks: set[str], table: Path) -> list[str]:
    """Tasks that only a callback measures, in the order of the matrix's table, as far as that can still be read."""
    order: list[str] = []
    with suppress(OSError, ValueError, KeyError, csv.Error):
        order = [line["task"] for line in csv.DictReader(table.read_text().splitlines())]
    return sorted(tasks, key=lambda task: (order.index(task) if task in order else len(order), task))
