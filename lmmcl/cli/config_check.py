"""Checks many configs without loading weights: what their runs would refuse before they train."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from lmmcl.cli.config_parser import reading_parser
from lmmcl.cli.config_parts import instantiated
from lmmcl.conflicts import check_conflicts
from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.loading import Checkpoint
from lmmcl.mitigation import StageCallback
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.recipe import Recipe
from lmmcl.structure.recipe_table import on_meta


class ConfigCheck:
    """Parses configs and makes of each its tasks, recipes and stage callbacks; what several share is made once."""

    def __init__(self) -> None:
        self._read = reading_parser()
        self._tasks: dict[str, Sequence[Task]] = {}
        self._anatomies: dict[Checkpoint, Anatomy | None] = {}
        self._fine: set[str] = set()

    def check(self, words: Sequence[str]) -> None:
        """Looks at one config.

        A checkpoint that cannot be read here says nothing against the config: the run may take place elsewhere.

        Args:
            words: behind ``lmmcl fit``.

        Raises:
            UserError: a key or a value is wrong, a YAML or a file of a task is missing, or there is no such task,
                recipe or group.
        """
        config = self._read(words)
        model, data, callbacks = config["model"], config["data"], config["trainer"]["callbacks"] or []
        tasks = self._tasks_of({**data, "seed": 0})
        recipes = [model["recipe"] if task.recipe is None else task.recipe for task in tasks]
        source = Checkpoint(
            model["path"], model["revision"], model["trust_remote_code"], model["from_scratch"]
        )
        key = repr((source, recipes, callbacks))
        if key in self._fine:
            return
        anatomy = self._anatomy(source)
        for recipe in recipes:
            parsed = Recipe.parse(recipe)
            if anatomy is not None:
                parsed.resolve(anatomy)
        check_conflicts([_made(entry) for entry in callbacks if _of_stages(entry)])
        self._fine.add(key)

    def _tasks_of(self, data: dict[str, Any]) -> Sequence[Task]:
        key = repr(data)
        if key not in self._tasks:
            self._tasks[key] = TaskSequenceDataModule(**data).tasks
        return self._tasks[key]

    def _anatomy(self, source: Checkpoint) -> Anatomy | None:
        if source not in self._anatomies:
            try:
                self._anatomies[source] = Anatomy.of(on_meta(source))
            except UserError:
                self._anatomies[source] = None
        return self._anatomies[source]


def _of_stages(entry: Any) -> bool:
    """Whether it is a mitigation, a probe or the evaluation: these are plain objects until a run sets them up."""
    module, _, name = entry["class_path"].rpartition(".")
    kind = getattr(import_module(module), name)
    return isinstance(kind, type) and issubclass(kind, StageCallback)


def _made(entry: Any) -> Any:
    try:
        return instantiated(entry)
    except (ImportError, TypeError, ValueError) as error:
        name = entry["class_path"].rpartition(".")[2]
        raise UserError(f"trainer.callbacks: {name}: {' '.join(str(error).split())}") from error
