"""Which linear layers the recipe of a task gives to adapters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import nn

from lmmcl.data.task import Task
from lmmcl.errors import UserError

if TYPE_CHECKING:
    from lmmcl.model import ContinualLMM


def linear_weights(
    owner: str, module: ContinualLMM, task: Task, modules: Mapping[str, nn.Module]
) -> list[str]:
    """The weights of linears that a task's recipe chooses; their biases are passed over.

    Args:
        owner: class of the callback, for errors.
        module: whose anatomy is that of the model as it was.
        task: of its data.
        modules: path to module, of the model as it was.

    Raises:
        UserError: the recipe chooses something that is neither the weight nor the bias of a linear.
    """
    weights, others = [], []
    for name in module.recipe_of(task).resolve(module.anatomy):
        if not _of_linear(name, modules):
            others.append(name)
        elif name.endswith(".weight"):
            weights.append(name)
    if others:
        groups = module.anatomy.groups.items()
        linear = [group for group, names in groups if all(_of_linear(name, modules) for name in names)]
        raise UserError(
            f"model.recipe: {owner} adapts linear layers only, and the recipe of {task.name} "
            f"({module.recipe_of(task).name}) also chooses {', '.join(others[:3])}"
            f"{f' and {len(others) - 3} more' if len(others) > 3 else ''}. Choose groups that are linear, here "
            f"{', '.join(linear)}, or single linears by a pattern of their names, such as *.q_proj.*."
        )
    return weights


def _of_linear(name: str, modules: Mapping[str, nn.Module]) -> bool:
    path, _, leaf = name.rpartition(".")
    return type(modules[path]) is nn.Linear and leaf in ("weight", "bias")
