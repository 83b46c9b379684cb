"""One run as statistics over many runs need it: its settings, and every example's score after every stage."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lmmcl.errors import UserError
from lmmcl.evaluation.callback_kinds import is_mitigation
from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.predictions import PredictionStore
from lmmcl.evaluation.statistics import Scores, mean_scores


@dataclass(frozen=True)
class RunScores:
    """The scores of one run.

    Args:
        run: its folder.
        settings: what decides its result, flat: ``model.recipe``, ``tasks.count.lr``, ``LwF.weight``, ... Seeds that
            are equal are one ``seed``, the targets in their order are ``order``.
        targets: those that were trained, in that order.
        held_out: those measured at every stage.
        ids: task -> ids of its examples.
        scores: task -> (T+1, examples), 0 to 100; stage 0 is the base model.
        groups: task -> group of every example, of tasks whose score is a mean over groups.
    """

    run: Path
    settings: Mapping[str, Any]
    targets: Sequence[str]
    held_out: Sequence[str]
    ids: Mapping[str, Sequence[str]]
    scores: Mapping[str, Scores]
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def stages(self) -> int:
        """T, the number of measured stages after the base model."""
        return len(self.targets)

    @property
    def finished(self) -> bool:
        """Whether all targets of its config were trained and measured."""
        order: Sequence[str] = self.settings["order"]
        return len(self.targets) == len(order)

    def points(self, tasks: Sequence[str]) -> Scores:
        """The score matrix (T+1, tasks)."""
        means = [mean_scores(self.scores[task], self.groups.get(task)) for task in tasks]
        return np.stack(means, axis=-1)


def read_run_scores(run: Path) -> RunScores:
    """Reads a run's config, matrix and predictions.

    Raises:
        UserError: the folder holds no run, no stage after the base model was measured, a target was left out of a
            stage, or a stage measured other examples than the base model.
    """
    matrix = Matrix.load(run)
    trained = list(matrix.targets[: len(matrix.finals) - 1])
    if not trained:
        raise UserError(f"{run}: no stage after the base model was measured yet; let it go on.")
    if missing := [task for task in trained if task not in matrix.measured(trained)]:
        raise UserError(
            f"{run}: {', '.join(missing)} was not measured at every stage, as every target must be."
        )
    held_out = matrix.measured(matrix.held_out)
    store = PredictionStore(run / "predictions")
    ids: dict[str, Sequence[str]] = {}
    scores: dict[str, Scores] = {}
    groups: dict[str, Sequence[str]] = {}
    for task in [*trained, *held_out]:
        results = []
        for stage in matrix.finals:
            try:
                results.append(store.read(stage.name, task))
            except FileNotFoundError as error:
                raise UserError(str(error)) from error
        ids[task] = [example.id for example in results[0].examples]
        same = results[0].groups
        if any([e.id for e in r.examples] != ids[task] or r.groups != same for r in results):
            raise UserError(
                f"{run}: {task} was measured on different examples at different stages; measure it again."
            )
        if same is not None:
            groups[task] = same
        scores[task] = np.array([[100.0 * e.score for e in result.examples] for result in results])
    return RunScores(run, read_settings(run), trained, held_out, ids, scores, groups)


def read_settings(run: Path) -> dict[str, Any]:
    """What decides a run's result, flat, from its ``config.json``; ``callbacks`` are its mitigations, not its probes.

    Raises:
        UserError: it is missing or damaged.
    """
    path = run / "config.json"
    try:
        config = json.loads(path.read_bytes())
        data = dict(config.pop("data"))
        tasks, held_out = data.pop("tasks"), data.pop("held_out")
        callbacks = config.pop("callbacks")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; give the folder of a run that lmmcl fit wrote.") from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); give another run.") from error
    flat: dict[str, Any] = {"order": [task["name"] for task in tasks]}
    flat["held_out"] = sorted(task["name"] for task in held_out)
    for task in sorted([*tasks, *held_out], key=lambda task: str(task["name"])):
        flat |= _flat({key: value for key, value in task.items() if key != "name"}, f"tasks.{task['name']}.")
    flat["callbacks"] = [str(kind).rpartition(".")[2] for kind, _ in callbacks if is_mitigation(str(kind))]
    for kind, plain in callbacks:
        name = str(plain.get("name", str(kind).rpartition(".")[2]))
        # A probe only looks; of what measures, it counts which rows.
        counts = plain.keys() - {"name"} if is_mitigation(str(kind)) else {"part"}
        flat |= _flat({key: value for key, value in plain.items() if key in counts}, f"{name}.")
    flat |= _flat(data, "data.") | _flat(config, "")
    if "model.seed" in flat and flat["model.seed"] == flat.get("data.seed"):
        flat["seed"] = flat.pop("model.seed")
        del flat["data.seed"]
    return flat


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping) and key != "recipe"
        found |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return found


def differing(runs: Sequence[RunScores]) -> dict[str, list[Any]]:
    """The settings in which runs differ: key -> the value of each run, None where it has none."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    values = {key: [run.settings.get(key) for run in runs] for key in keys}
    return {key: held for key, held in values.items() if any(value != held[0] for value in held)}
