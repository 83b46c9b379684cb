"""Runs that never happened, for statistics over several runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmmcl.evaluation.run_scores import RunScores
from lmmcl.evaluation.statistics import Scores

TARGETS, HELD_OUT = ["a", "b", "c"], ["x", "y"]


def run(
    seed: int = 0,
    recipe: str = "full",
    n: int = 40,
    order: Sequence[str] = TARGETS,
    shift: float = 0.0,
    **settings: Any,
) -> RunScores:
    """A run whose examples are hard or easy for all runs, with noise of its own; ``shift`` makes it better."""
    scores: dict[str, Scores] = {}
    for j, task in enumerate(sorted([*order, *HELD_OUT])):
        ease = np.random.default_rng([1, j]).normal(size=n)
        noise = np.random.default_rng([2, j, seed, len(recipe)]).normal(size=(len(order) + 1, n))
        base = np.random.default_rng([3, j]).normal(size=n)
        noise[0] = base  # one base model for all
        right = ease + noise > -0.2 - shift / 40 * (np.arange(len(order) + 1) > 0)[:, None]
        scores[task] = np.where(right, 100.0, 0.0)
    ids = {task: [f"{task}{i}" for i in range(n)] for task in scores}
    held = {"seed": seed, "order": list(order), "model.recipe": recipe, **settings}
    return RunScores(Path(f"runs/{recipe}-{seed}"), held, list(order), HELD_OUT, ids, scores)
