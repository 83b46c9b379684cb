"""What a run leaves behind for its reader: ``summary.json`` and the pictures, made of its matrix and predictions."""

import json
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
    draw_run(matrix, summary, run / FIGURES)
    return summary


def summary_of(run: Path, matrix: Matrix) -> Summary | None:
    """Learning and forgetting from every single answer of a run; None before the first stage is measured."""
    if len(matrix.finals) < 2:
        return None
    store = PredictionStore(run / "predictions")
    stages = [{task: store.read(stage.name, task) for task in matrix.tasks} for stage in matrix.finals]
    return summarise(stages, matrix.targets, matrix.held_out)


def load_summary(run: Path) -> Summary | None:
    """The summary that a run has written, None if it has none."""
    path = run / SUMMARY
    return Summary.from_dict(json.loads(path.read_bytes())) if path.exists() else None
