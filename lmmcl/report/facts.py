"""How a run was made: the plan, what fought forgetting, the settings, the environment, the cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from lmmcl.evaluation.callback_kinds import is_mitigation
from lmmcl.provenance import config_again, data_of, versions, without_paths
from lmmcl.report.run_data import RunData
from lmmcl.report.words import listed

_NOT_SETTINGS = {"run", "resume", "root", "num_workers", "ckpt_path"}


def plan_rows(run: RunData) -> list[dict[str, str]]:
    """One row per target: what it was taught with, and how."""
    tasks = run.config.get("data", {}).get("tasks", [])
    specs = (run.given.get("data") or {}).get("tasks") or []
    copied = bool((run.given.get("data") or {}).get("root"))
    rows = []
    for k, task in enumerate(tasks, 1):
        lineage = run.lineages[k] if k < len(run.lineages) else {}
        spec = specs[k - 1] if len(specs) == len(tasks) else task["name"]
        rate = task.get("lr") or run.config.get("model", {}).get("lr")
        recipe = task.get("recipe") or run.config.get("model", {}).get("recipe")
        rows.append(
            {
                "stage": str(k),
                "task": task["name"],
                "data": data_of(spec, copied)[0],
                "rows": f"{lineage['rows']:,}" if "rows" in lineage else "–",
                "epochs": str(task.get("epochs", 1)),
                "steps": f"{run.steps[task['name']]:,}" if task["name"] in run.steps else "–",
                "learning rate": f"{rate:g}" if rate is not None else "–",
                "trains": recipe_text(recipe),
                "scorer": str(task.get("scorer", "–")).rpartition(".")[2],
                "status": "measured" if k <= run.done else "not yet",
            }
        )
    return rows


def recipe_text(recipe: Any) -> str:
    """A recipe in words, in any form that a config takes."""
    if isinstance(recipe, str):
        return recipe
    if isinstance(recipe, list):
        return " + ".join(recipe_text(part) for part in recipe)
    return json.dumps(without_paths(recipe), sort_keys=True) if recipe is not None else "–"


def mitigations(run: RunData) -> list[tuple[str, str]]:
    """Name and settings of every callback that fights forgetting."""
    return _callbacks(run, fights=True)


def probes(run: RunData) -> list[tuple[str, str]]:
    """Name and settings of every callback that measures or probes."""
    return _callbacks(run, fights=False)


def _callbacks(run: RunData, fights: bool) -> list[tuple[str, str]]:
    return [
        (path.rpartition(".")[2], settings_text(settings))
        for path, settings in run.config.get("callbacks", [])
        if is_mitigation(path) == fights
    ]


def settings_text(settings: Mapping[str, Any]) -> str:
    """``alpha 0.3, every 2``: what a callback was given."""
    given = without_paths(
        {key: value for key, value in settings.items() if key != "name" and value is not None}
    )
    return ", ".join(f"{key} {_value(value)}" for key, value in given.items())


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def facts(run: RunData) -> list[tuple[str, str]]:
    """Model, recipe and settings that hold for all tasks."""
    model, data = run.config.get("model", {}), run.config.get("data", {})
    base = str(without_paths(str(model.get("path", "–")), "path"))
    revision = f" (revision {model['revision']})" if model.get("revision") else ""
    fresh = ", new weights" if model.get("from_scratch") else ""
    pairs = [
        ("Base model", f"{base}{revision}{fresh}"),
        ("Recipe", recipe_text(model.get("recipe"))),
        ("Learning rate", f"{model['lr']:g}, {model.get('schedule', '')}" if "lr" in model else "–"),
        ("Batch size", f"{data.get('batch_size', '–')}"),
        ("Precision", str(run.config.get("precision", "–"))),
        ("Seed", str(model.get("seed", "–"))),
        (
            "Measured on",
            f"at most {data['max_eval_samples']} rows a task" if data.get("max_eval_samples") else "all rows",
        ),
        ("Scoring", str(data.get("scoring", "–"))),
    ]
    return [pair for pair in pairs if pair[1] != "–"] if run.config else []


def environment(run: RunData) -> list[tuple[str, str]]:
    """Versions and machine."""
    held = run.environment
    pairs = [
        ("Versions", versions(held)),
        ("Device", str(held.get("device", ""))),
        (
            "Processes",
            f"{held['processes']}, {held.get('threads', '–')} threads each" if "processes" in held else "",
        ),
        ("Platform", str(held.get("platform", ""))),
    ]
    return [pair for pair in pairs if pair[1]]


def config_text(run: RunData) -> str:
    """The config that makes the run again, without empty values and without folders of the machine."""
    plain = config_again(run.given, _NOT_SETTINGS)
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True) if plain else ""


def title_of(run: RunData) -> str:
    """What the run is: the base model and what it was taught."""
    base = str(without_paths(str(run.config.get("model", {}).get("path", "model")), "path")).rpartition("/")[
        2
    ]
    return f"{base}, taught {listed(run.taught)}" if run.taught else f"{base}, not taught yet"
