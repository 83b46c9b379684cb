"""Mixtures of a frozen MLP and its tuned copy in the decoder layers, weighed token by token."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from lmmcl.adapters.first_values import normal_
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.landmarks import inside

if TYPE_CHECKING:
    from lmmcl.model import ContinualLMM

GROUP = "expert"
"""Last part of the name of a copy's group: that of ``llm.mlp.up`` is ``llm.mlp.up.expert``."""

_MLP = "llm.mlp."
_SPREAD = 0.02
"""Standard deviation of a router's first weights."""


class Mixture(nn.Module):
    """(1 − p) MLP(x) + p copy(x), with p = softmax(R x + b)_copy for every token x; R (2, width).

    With two experts the top-2 share what the softmax gives them, and the top-1 has all of it. The sum is taken as an
    interpolation: p 0 and 1 give either MLP bit for bit, and where both say the same, it is what they say, whatever p.

    Args:
        mlp: the layer's own; its parameters keep their names.
        width: of the tokens.
        top_k_eval: experts of a token in eval mode, 1 or 2; in training both.
    """

    def __init__(self, mlp: nn.Module, width: int, top_k_eval: int) -> None:
        super().__init__()
        self.base_layer = mlp
        self.expert = copy.deepcopy(mlp)
        device = next(mlp.parameters()).device
        self.router = nn.utils.skip_init(nn.Linear, width, 2, device=device, dtype=torch.float32)
        self.top_k_eval = top_k_eval

    @override
    def forward(self, hidden: Tensor, *more: Any, **named: Any) -> Tensor:
        share = self.router(hidden).float().softmax(-1)[..., 1:]
        if self.top_k_eval == 1 and not self.training:
            share = share > 0.5
        own, tuned = self.base_layer(hidden, *more, **named), self.expert(hidden, *more, **named)
        if not isinstance(own, Tensor):
            raise UserError(
                f"trainer.callbacks: MoE mixes MLPs that return one tensor, and this model's "
                f"({type(self.base_layer).__name__}) returns a {type(own).__name__}. Leave MoE out."
            )
        return torch.lerp(own, tuned.to(own.dtype), share.to(own.dtype))


class Experts:
    """The mixtures of a model: in every decoder layer in which any task's recipe chooses tensors of the MLP.

    What a task trains of a layer's MLP, it trains in the copy, and the router with it; the MLP itself stays frozen.

    Args:
        top_k_eval: experts of a token in eval mode, 1 or 2.

    Raises:
        UserError: it is another number.
    """

    def __init__(self, top_k_eval: int) -> None:
        if top_k_eval not in (1, 2):
            raise UserError(f"trainer.callbacks: MoE.top_k_eval must be 1 or 2, got {top_k_eval}.")
        self._top_k_eval = top_k_eval
        self._paths: list[str] = []

    def adapt(self, module: ContinualLMM, model: nn.Module) -> None:
        """Wraps the MLPs; see `Mitigation.adapt`.

        Raises:
            UserError: no recipe chooses an MLP, or the layers of this model have none that stands alone.
        """
        tasks = [module.recipe_of(task).resolve(module.anatomy) for task in module.data.tasks]
        chosen = {name for trained in tasks for name, group in trained.items() if group.startswith(_MLP)}
        mlps = mlps_of(module.anatomy)
        self._paths = [path for path in mlps.values() if any(inside(name, path) for name in chosen)]
        if not chosen:
            raise UserError(
                "model.recipe: MoE tunes a copy of the MLPs that a recipe chooses, and no task's recipe chooses any. "
                "Take mlp, or add it to the list."
            )
        apart = sorted(name for name in chosen if not any(inside(name, path) for path in self._paths))
        if apart:
            raise UserError(
                f"model.recipe: MoE copies an MLP that is one module of its decoder layer, and in this model "
                f"{apart[0]} lies in none. Leave MoE out, or choose layers that have one."
            )
        for path in self._paths:
            parent, _, leaf = path.rpartition(".")
            mlp = model.get_submodule(path)
            mixture = Mixture(mlp, _width(mlp, model), self._top_k_eval).train(mlp.training)
            setattr(model.get_submodule(parent), leaf, mixture)
            _begin(mixture.router, module.hparams["seed"], f"{path}.router")

    def trains(self, module: ContinualLMM, task: Task, trained: Mapping[str, str]) -> dict[str, str]:
        """Copies in the place of MLPs, and their routers; see `Mitigation.trains`."""
        found: dict[str, str] = {}
        for name, group in trained.items():
            path = next((path for path in self._paths if inside(name, path)), None)
            if path is None:
                found[name] = group
                continue
            found[f"{path}.expert{name.removeprefix(path)}"] = f"{group}.{GROUP}"
            for part in ("weight", "bias"):
                found.setdefault(f"{path}.router.{part}", f"{group}.{GROUP}")
        return found


def mlps_of(anatomy: Anatomy) -> dict[str, str]:
    """Path of each decoder layer's MLP, by the layer's path; without those whose parts lie in the layer itself."""
    owners: dict[str, list[list[str]]] = {}
    for names in (names for group, names in anatomy.groups.items() if group.startswith(_MLP)):
        for name in names:
            layer = next((path for path in anatomy.decoder_layers if inside(name, path)), None)
            if layer is not None:
                owners.setdefault(layer, []).append(name.split(".")[:-1])
    around = {layer: ".".join(_shared(paths)) for layer, paths in owners.items()}
    return {layer: path for layer, path in around.items() if path != layer}


def _shared(paths: list[list[str]]) -> list[str]:
    """The beginning that all paths have."""
    levels = zip(*paths, strict=False)  # as deep as the shortest
    return [level[0] for level in takewhile(lambda level: len(set(level)) == 1, levels)]


def _width(mlp: nn.Module, model: nn.Module) -> int:
    """Width of what an MLP reads: that of its first linear layer; fused experts have none, and read the model's."""
    linear = next((part for part in mlp.modules() if isinstance(part, nn.Linear)), None)
    if linear is not None:
        return linear.in_features
    config: Any = model.config
    return int(config.get_text_config().hidden_size)


@torch.no_grad()
def _begin(router: nn.Module, seed: int, name: str) -> None:
    """First values of a router: N(0, 0.02), and no bias."""
    normal_(router.get_parameter("weight"), _SPREAD, seed, f"{name}.weight")
    router.get_parameter("bias").zero_()
