"""A run that never happened, with numbers as the study's: what the pictures are looked at with."""

import numpy as np

from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.result import Example, TaskResult
from lmmcl.evaluation.summary import Summary, summarise

TARGETS = ["species", "count", "tissue", "word", "clock"]
HELD_OUT = ["diagram", "chart", "document", "infographic", "scene", "science", "mixed", "attributes"]
# Rows: after stage 0..5.
LEARNED = [
    [8.2, 22.0, 31.4, 4.0, 1.2],
    [78.4, 20.1, 30.2, 5.2, 0.8],
    [71.0, 63.2, 27.8, 3.1, 1.4],
    [66.2, 51.8, 82.6, 6.0, 2.2],
    [68.0, 50.2, 78.2, 74.4, 1.6],
    [64.8, 47.0, 76.4, 70.8, 58.6],
]
COSTS: dict[str, list[float]] = {
    "full": [0, -8, -22, -16, -20, -12],
    "sa_proj": [0, -0.8, -3.4, -2.0, -1.4, -0.9],
}


def result(task: str, score: float, stage: int, n: int, seed: int, unparsed: float = 0.0) -> TaskResult:
    """A result with about this mean; an example's difficulty is its own at all stages, as with real ones."""
    difficulty = np.random.default_rng([seed, sum(task.encode())]).permutation(n)
    noise = np.random.default_rng([seed, stage, sum(task.encode())]).normal(0, 0.06 * n, size=n)
    right = difficulty + noise < score / 100 * n
    examples = [
        Example(
            str(i),
            "x",
            "x",
            float(ok),
            ok or i >= unparsed * n,
            {"hour": float(ok)} if task == "clock" else {},
        )
        for i, ok in enumerate(right.tolist())
    ]
    return TaskResult(task, examples)


def fake_run(
    recipe: str = "full", stages: int = 5, n: int = 250, seed: int = 0
) -> tuple[Matrix, Summary | None]:
    """The matrix after so many stages, and its summary when there is a stage to sum up."""
    spread = np.random.default_rng(1).uniform(0.4, 1.7, size=len(HELD_OUT))
    matrix = Matrix(TARGETS, HELD_OUT)
    results: list[dict[str, TaskResult]] = []
    for k in range(stages + 1):
        gain = 0.85 if recipe == "sa_proj" else 1.0
        scores = {task: gain * LEARNED[k][j] for j, task in enumerate(TARGETS)}
        scores |= {task: 91 - 2 * h + COSTS[recipe][k] * spread[h] for h, task in enumerate(HELD_OUT)}
        found = [result(task, score, k, n, seed, 0.02 * (k == 2)) for task, score in scores.items()]
        matrix.put(k, f"{k:02}-{(['base', *TARGETS])[k]}", found)
        results.append({one.task: one for one in found})
    return matrix, summarise(results, TARGETS, HELD_OUT, resamples=300) if stages else None
