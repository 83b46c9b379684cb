"""Reads a task from its YAML form: a name, a name with overrides, or files on disk."""

from collections.abc import Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from importlib import import_module
from typing import Any, cast

import lmmcl.scorers
from lmmcl.data.sources import FileSource
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.recipe_spec import RecipeSpec
from lmmcl.scorers.score import Scorer

OVERRIDES = tuple(field.name for field in fields(Task) if field.name not in ("name", "source", "scorer"))
FILE_KEYS = ("path", "image_folder", "columns", "split")

_Value = str | int | float | bool | None | RecipeSpec | dict[str, str | float | None]
TaskSpec = str | dict[str, _Value] | dict[str, Any] | Task
"""A task as YAML holds it, spelt out for the reason given at `lmmcl.recipe_spec.RecipeSpec`."""


def nearest(name: str, known: list[str]) -> str:
    """A hint at what a misspelt name was meant to be."""
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}? " if close else ""


def built_in_tasks() -> Mapping[str, Task]:
    """The tasks that a name alone stands for."""
    tasks: Mapping[str, Task] = import_module(
        "lmmcl.world.tasks"
    ).TASKS  # by name: the world stands above the data
    return tasks


def parse_task(spec: TaskSpec, *, key: str = "data.tasks", held_out: bool = False) -> Task:
    """Makes a task of its YAML form.

    The forms: ``count``, a built-in task; ``{task: count, lr: 1e-4, max_train_samples: 100}``, one with
    overrides; ``{task: mine, path: parts.jsonl, scorer: letter, epochs: 2}``, files (see `FileSource` for
    ``path``, ``image_folder``, ``columns`` and ``split``); or, from Python, a `Task`.

    Args:
        spec: the form.
        key: YAML key named in errors.
        held_out: the task is only measured: a single file then has no train part, its rows are dev (0.1) and
            test (0.9) unless ``split`` says otherwise.

    Returns:
        The task.

    Raises:
        UserError: an unknown name, key or scorer (with the nearest known one), a value of the wrong type, or
            a file that cannot be read.
    """
    if isinstance(spec, Task):
        return spec
    if isinstance(spec, str):
        return _built_in(spec, key)
    given: Any = spec  # from YAML it may be anything
    if not isinstance(given, Mapping) or not isinstance(given.get("task"), str):
        raise UserError(
            f"{key}: a task must be a name or a mapping with the key 'task', got {spec!r}; write for example "
            "{task: mine, path: rows.jsonl, scorer: letter}."
        )
    allowed = ["task", "scorer", *OVERRIDES, *FILE_KEYS]
    for name in given:
        if name not in allowed:
            raise UserError(
                f"{key}: {given['task']} has the unknown key {name!r}; {nearest(str(name), allowed)}"
                f"Keys are {', '.join(allowed)}."
            )
    changes: dict[str, Any] = {name: given[name] for name in OVERRIDES if name in given}
    if isinstance(changes.get("lr"), str):
        changes["lr"] = _number(changes["lr"], f"{key}: {given['task']}.lr")
    if "scorer" in given:
        changes["scorer"] = find_scorer(given["scorer"], f"{key}: {given['task']}.scorer")
    if "path" not in given:
        for name in FILE_KEYS:
            if name in given:
                raise UserError(f"{key}: {given['task']}.{name} needs 'path' beside it: only files have it.")
        return replace(_built_in(given["task"], key), **changes)
    try:
        source = FileSource(**{name: given[name] for name in FILE_KEYS if name in given}, held_out=held_out)
    except UserError as error:
        raise UserError(f"{key}: {given['task']}: {error}") from error
    scorer = changes.pop("scorer", lmmcl.scorers.exact_match)
    return Task(given["task"], source, scorer, **changes)


def _built_in(name: str, key: str) -> Task:
    known = built_in_tasks()
    if name not in known:
        raise UserError(
            f"{key}: there is no task {name!r}; {nearest(name, list(known))}Known are {', '.join(known)}; "
            f"your own needs its files: {{task: {name}, path: rows.jsonl, scorer: exact_match}}."
        )
    return known[name]


def _number(text: str, key: str) -> float:
    try:
        return float(text)  # YAML 1.1 reads 1e-4 (no dot) as a text
    except ValueError:
        raise UserError(f"{key} must be a number, got {text!r}.") from None


def find_scorer(name: Any, key: str) -> Scorer:
    """The scorer that a YAML value names.

    Args:
        name: a function of `lmmcl.scorers`, a dotted path to one's own, or (from Python) the function itself.
        key: YAML key named in errors.

    Raises:
        UserError: nothing callable has this name.
    """
    if callable(name):
        return cast(Scorer, name)
    known = [entry for entry in lmmcl.scorers.__all__ if entry[0].islower()]
    if name in known:
        return cast(Scorer, getattr(lmmcl.scorers, name))
    module, _, function = str(name).rpartition(".")
    try:
        found = getattr(import_module(module), function) if module else None
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"{key}: {name} cannot be imported ({error}); give module.function of a module that Python finds."
        ) from error
    if not callable(found):
        raise UserError(
            f"{key}: there is no scorer {name!r}; {nearest(str(name), known)}Known are {', '.join(known)}; "
            "your own is named module.function."
        )
    return cast(Scorer, found)
