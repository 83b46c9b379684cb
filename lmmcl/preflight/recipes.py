"""The recipe trains what it says: resolved on a model without weights, with its counts."""

from __future__ import annotations

from collections.abc import Iterator

from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.errors import UserError
from lmmcl.model import ContinualLMM
from lmmcl.preflight.finding import Finding
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.recipe_table import count_text, short_groups


def trained_by(
    module: ContinualLMM, data: TaskSequenceDataModule, anatomy: Anatomy
) -> dict[str, dict[str, str]]:
    """What each task trains, parameter to group; a task whose recipe does not fit is left out."""
    found = {}
    for task in data.tasks:
        try:
            found[task.name] = module.recipe_of(task).resolve(anatomy)
        except UserError:
            continue
    return found


def check_recipes(module: ContinualLMM, data: TaskSequenceDataModule, anatomy: Anatomy) -> Iterator[Finding]:
    """One line for each recipe of the run: its groups, parameters and share; a failure where it matches nothing."""
    recipes: dict[str, list[str]] = {}
    for task in data.tasks:
        try:
            recipes.setdefault(module.recipe_of(task).name, []).append(task.name)
        except UserError as error:
            yield Finding("failure", "recipe", task.name, str(error))
    total = sum(anatomy.numel.values())
    for name, tasks in recipes.items():
        recipe = module.recipe_of(data.task(tasks[0]))
        only = tasks[0] if len(tasks) == 1 and len(data.tasks) > 1 else ""
        try:
            trained = recipe.resolve(anatomy)
        except UserError as error:
            yield Finding("failure", "recipe", only, str(error))
            continue
        count = sum(anatomy.numel[parameter] for parameter in trained)
        held = set(trained.values())
        groups = short_groups([group for group in anatomy.groups if group in held])
        share = f"{count_text(count)} of {count_text(total)} parameters, {100 * count / total:.1f} %"
        text = f"{name} trains {groups}: {share}"
        yield Finding("ok", "recipe", only, text)
