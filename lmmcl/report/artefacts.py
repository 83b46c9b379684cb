"""What a run leaves behind for its reader: ``summary.json`` and the pictures, made of its matrix and predictions."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

from lmmcl.checkpoint import as_json, write_atomically
from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.predictions import PredictionStore
from lmmcl.evaluation.summary import Summary, summarise
from lmmcl.report.figures import draw_run

SUMMARY = "summary.json"
FIGURES = "figures"


def write_artefacts(run: Path) -> Summary | None:
    """Writes a run's summary and pictures; the same run gives the same bytes.

    Held-out tasks that were not measured at every stage stand in ``matrix.csv`` alone: a change needs both ends.

    Args:
        run: its folder, with ``matrix.json`` and ``predictions/``.

    Returns:
        The summary; None if no stage after the base model was measured.
    """
    matrix = Matrix.load(run)
    if not matrix.finals:
        return None
    summary = summary_of(run, matrix)
    if summary is not None:
        write_atomically(run / SUMMARY, as_json(summary.to_dict()))
    draw_run(replace(matrix, held_out=matrix.measured(matrix.held_out)), summary, run / FIGURES)
    return summary


def summary_of(run: Path, matrix: Matrix) -> Summary | None:
    """Learning and forgetting from every single answer of a run to the tasks measured at every stage.

    Returns:
        None before the first stage is measured, and, with a warning, where a trained target was left out of a stage:
        every statistic of the targets needs all of them.
    """
    trained = matrix.targets[: len(matrix.finals) - 1]
    if not trained:
        return None
    missing = [task for task in trained if task not in matrix.measured(trained)]
    if missing:
        warnings.warn(
            f"{run}: no summary, it needs all targets at every stage, and {', '.join(missing)} was left out of some.",
            stacklevel=2,
        )
        return None
    held_out = matrix.measured(matrix.held_out)
    store = PredictionStore(run / "predictions")
    stages = [
        {task: store.read(stage.name, task) for task in [*trained, *held_out]} for stage in matrix.finals
    ]
    return summarise(stages, matrix.targets, held_out)


def load_summary(run: Path) -> Summary | None:
    """The summary that a run has written, None if it has none."""
    path = run / SUMMARY
    return Summary.from_dict(json.loads(path.read_bytes())) if path.exists() else None
