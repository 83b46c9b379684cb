"""What of a task decides the results of a run, as plain values."""

from typing import Any

from lmmcl.data.scorer_source import scorer_source
from lmmcl.data.task import Task


def task_fingerprint(task: Task) -> dict[str, Any]:
    """The rows by their hash, the scorer by its name and, if it is the user's, its code, and all overrides."""
    scorer = task.scorer
    name = getattr(scorer, "__qualname__", type(scorer).__qualname__)
    source = scorer_source(scorer)
    return {
        "name": task.name,
        "rows": task.source.fingerprint(),
        "scorer": f"{scorer.__module__}.{name}",
        **({"scorer_source": source} if source else {}),
        "max_new_tokens": task.max_new_tokens,
        "epochs": task.epochs,
        "lr": task.lr,
        "recipe": task.recipe,
        "batch_size": task.batch_size,
        "max_train_samples": task.max_train_samples,
        **({} if task.mean_over is None else {"mean_over": task.mean_over}),
    }
