"""Reads a task from its YAML form: a name, a name with overrides, files on disk, or data of the hub."""

from collections.abc import Mapping
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import lmmcl.scorers
from lmmcl.data.drop_bad_rows import DropBadRows
from lmmcl.data.find_scorer import find_scorer
from lmmcl.data.hub.form import hub_source
from lmmcl.data.nearest import nearest
from lmmcl.data.own_train import OwnTrain
from lmmcl.data.sources import FileSource
from lmmcl.data.task import RootedSource, Source, Task
from lmmcl.data.task_settings import TaskSettings
from lmmcl.errors import UserError
from lmmcl.structure.recipe_spec import RecipeSpec

OVERRIDES = tuple(
    field.name for field in fields(Task) if field.name not in ("name", "source", "scorer", "lmms_eval")
)
SOURCE_KEYS = {
    "path": ("image_folder", "columns", "split", "prompt"),
    "hub": ("config", "revision", "splits", "columns", "split", "prompt"),
    "train": ("image_folder", "columns", "prompt"),
}
"""Where rows come from (one of these), and the keys that may stand beside it."""
FILE_KEYS = ("path", *SOURCE_KEYS["path"])

_Value = str | int | float | bool | None | RecipeSpec | dict[str, str | float | None]
TaskSpec = str | dict[str, _Value] | dict[str, Any] | Task
"""A task as YAML holds it, spelt out for the reason given at `lmmcl.structure.recipe_spec.RecipeSpec`."""


def built_in_tasks() -> Mapping[str, Task]:
    """The tasks that a name alone stands for: the study's, and those of the picture world."""
    # By name: both stand above the data.
    return {**import_module("lmmcl.world.tasks").TASKS, **import_module("lmmcl.tasks").TASKS}


def parse_task(
    spec: TaskSpec,
    *,
    key: str = "data.tasks",
    held_out: bool = False,
    train_only: bool = False,
    settings: TaskSettings | None = None,
) -> Task:
    """Makes a task of its YAML form.

    The forms: ``count``, a built-in task; ``{task: count, lr: 1e-4, max_train_samples: 100}``, one with overrides;
    ``{task: time_clock, train: rows.jsonl}``, one that learns from other rows; ``{task: mine, path: parts.jsonl,
    scorer: letter, epochs: 2}``, files (see `FileSource` for ``path``, ``image_folder``, ``columns``, ``split`` and
    ``prompt``); ``{task: mine, hub: owner/name, config: c, revision: r, splits: {train: train, test: validation}}``,
    data of the hub, also with ``columns``, ``prompt`` and ``split: {dev: 0.1}``; or, from Python, a `Task`. Each may
    have ``scoring``.

    Args:
        spec: the form.
        key: YAML key named in errors.
        held_out: the task is only measured: files without parts then have no train part, their rows are dev (0.1) and
            test (0.9) unless ``split`` says otherwise.
        train_only: the task is never measured: files without parts are for training, all of them.
        settings: of the run; None: the usual ones.

    Returns:
        The task.

    Raises:
        UserError: an unknown name, key or scorer (with the nearest known one), a value of the wrong type, or
            a file that cannot be read.
    """
    settings = settings or TaskSettings()
    if isinstance(spec, Task):
        return _settled(spec, settings, key)
    if isinstance(spec, str):
        return _settled(_built_in(spec, key), settings, key)
    given: Any = spec  # from YAML it may be anything
    if not isinstance(given, Mapping) or not isinstance(given.get("task"), str):
        raise UserError(
            f"{key}: a task must be a name or a mapping with the key 'task', got {spec!r}; write for example "
            "{task: mine, path: rows.jsonl, scorer: letter}."
        )
    where = f"{key}: {given['task']}"
    origin = _origin(given, held_out, where)
    changes: dict[str, Any] = {name: given[name] for name in OVERRIDES if name in given}
    if isinstance(changes.get("lr"), str):
        changes["lr"] = _number(changes["lr"], f"{where}.lr")
    if "scorer" in given:
        changes["scorer"] = find_scorer(given["scorer"], f"{where}.scorer")
    if "scoring" in given:
        settings = replace(settings, scoring=given["scoring"])
    if settings.scoring == "lmms-eval" and "scorer" in given:
        raise UserError(
            f"{where}.scorer: scoring is lmms-eval, which brings its own; add scoring: robust, or remove it."
        )
    return _settled(_made(given, origin, held_out, train_only, settings, changes, key), settings, key)


def _origin(given: Mapping[str, Any], held_out: bool, where: str) -> str:
    """Where the rows come from: ``path``, ``hub``, ``train`` or (empty) a built-in task alone."""
    all_keys = dict.fromkeys(name for origin, keys in SOURCE_KEYS.items() for name in (origin, *keys))
    allowed = ["task", "scorer", "scoring", *OVERRIDES, *all_keys]
    for name in given:
        if name not in allowed:
            raise UserError(
                f"{where} has the unknown key {name!r}; {nearest(str(name), allowed)}Keys are {', '.join(allowed)}."
            )
    origins = [origin for origin in SOURCE_KEYS if origin in given]
    if len(origins) > 1:
        raise UserError(
            f"{where}: its rows must come from one place, got {' and '.join(origins)}; remove one."
        )
    origin = origins[0] if origins else ""
    for name in given:
        owners = [owner for owner, keys in SOURCE_KEYS.items() if name in keys]
        if owners and origin not in owners:
            raise UserError(f"{where}.{name} needs {' or '.join(map(repr, owners))} beside it.")
    if held_out and origin == "train":
        raise UserError(
            f"{where}.train: a held-out task is only measured, got training rows; remove the key."
        )
    return origin


def _made(
    given: Mapping[str, Any],
    origin: str,
    held_out: bool,
    train_only: bool,
    settings: TaskSettings,
    changes: dict[str, Any],
    key: str,
) -> Task:
    name = given["task"]
    options = {option: given[option] for option in SOURCE_KEYS.get(origin, ()) if option in given}
    folder = options.get("image_folder")
    if not isinstance(folder, str | Path | None):
        raise UserError(
            f"{key}: {name}.image_folder must be the path of a folder, got {folder!r}; write a text, or remove it."
        )
    try:
        if origin == "hub":
            source: Source = hub_source(given["hub"], held_out, **options)
        elif origin == "path":
            source = FileSource(
                given["path"],
                held_out=held_out,
                train_only=train_only,
                on_bad_row=settings.on_bad_row,
                image_roots=settings.image_roots,
                **options,
            )
        elif origin == "train":
            base = _built_in(name, key)
            train = FileSource(
                given["train"],
                train_only=True,
                on_bad_row=settings.on_bad_row,
                image_roots=settings.image_roots,
                **options,
            )
            return replace(base, source=OwnTrain(train, base.source), **changes)
        else:
            return replace(_built_in(name, key), **changes)
    except UserError as error:
        raise (error if str(error).startswith(key) else UserError(f"{key}: {name}: {error}")) from error
    return Task(name, source, changes.pop("scorer", lmmcl.scorers.exact_match), **changes)


def _settled(task: Task, settings: TaskSettings, key: str) -> Task:
    """The task under the settings of the run."""
    source = task.source
    if settings.root is not None and isinstance(source, RootedSource):
        source = source.at(Path(settings.root).expanduser())
    if settings.scoring == "lmms-eval" and isinstance(source, RootedSource):
        source = source.undivided()
    reads = isinstance(source, FileSource | RootedSource)
    if settings.on_bad_row == "drop" and reads:
        source = DropBadRows(source, task.name)
    if source is not task.source:
        task = replace(task, source=source)
    if settings.scoring == "robust":
        return task
    if task.lmms_eval is None:
        known = [name for name, other in built_in_tasks().items() if other.lmms_eval is not None]
        raise UserError(
            f"{key}: {task.name} has no scorer of lmms-eval, which there is for {', '.join(known)}; write {{task: "
            f"{task.name}, ..., scoring: robust}}."
        )
    return replace(task, scorer=task.lmms_eval)


def _built_in(name: str, key: str) -> Task:
    known = built_in_tasks()
    if name not in known:
        raise UserError(
            f"{key}: there is no task {name!r}; {nearest(name, known)}Known are {', '.join(known)}; "
            f"your own needs its files: {{task: {name}, path: rows.jsonl, scorer: exact_match}}."
        )
    return known[name]


def _number(text: str, key: str) -> float:
    try:
        return float(text)  # YAML 1.1 reads 1e-4 (no dot) as a text
    except ValueError:
        raise UserError(f"{key} must be a number, got {text!r}.") from None
