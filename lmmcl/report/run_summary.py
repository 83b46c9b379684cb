"""``summary.json`` of a run: made of every single answer, and read again."""

import json
import warnings
from pathlib import Path

from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.predictions import PredictionStore
from lmmcl.evaluation.summary import Summary, summarise

SUMMARY = "summary.json"


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
