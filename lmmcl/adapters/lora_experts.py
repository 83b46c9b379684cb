"""Mixtures of low-rank experts on the linears of a recipe, with a router for every linear."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from typing_extensions import override

from lmmcl.adapters.first_values import kaiming_uniform_
from lmmcl.adapters.linears import linear_weights
from lmmcl.data.task import Task
from lmmcl.errors import UserError

if TYPE_CHECKING:
    from lmmcl.model import ContinualLMM

GROUP = "experts"
"""Last part of the name of the experts' group: that of ``llm.mlp.up`` is ``llm.mlp.up.experts``."""

_PARTS = ("experts_A", "experts_B", "router")


class ExpertLinear(nn.Module):
    """W x + s Σ_e softmax(R x)_e B_e A_e dropout(x), in two products for all experts together.

    The A_e lie one above the other in ``experts_A`` (rank, in) and the B_e side by side in ``experts_B`` (out, rank):
    between the two products, each expert's part of the rank is weighed with what the router R (experts, in) gives it.

    Args:
        linear: W and its bias, which keep their names.
        experts: how many share the rank.
        rank: of all experts together, a multiple of their number.
        scale: s.
    """

    def __init__(self, linear: nn.Linear, experts: int, rank: int, scale: float) -> None:
        super().__init__()
        self.base_layer = linear
        self.experts_A = _linear(linear.in_features, rank, linear.weight.device)
        self.experts_B = _linear(rank, linear.out_features, linear.weight.device)
        self.router = _linear(linear.in_features, experts, linear.weight.device)
        self.dropout = nn.Dropout(0.0)
        self.scale = scale

    @override
    def forward(self, x: Tensor) -> Tensor:
        share = self.router(x).float().softmax(-1)
        low: Tensor = self.experts_A(self.dropout(x))
        low = low.unflatten(-1, (share.shape[-1], -1)) * share.to(low.dtype)[..., None]
        mixed: Tensor = self.base_layer(x) + self.experts_B(low.flatten(-2)) * self.scale
        return mixed


class LowRankExperts:
    """The mixtures of a model, on the linears that any task's recipe chooses; every task trains on at its own.

    Args:
        owner: class of the callback, for errors.
        rank: of all experts together.
        experts: how many, at least 1.
        alpha: α, above 0; s = α / rank.
        dropout: of the experts' input where they are trained, in [0, 1).

    Raises:
        UserError: a value is out of its range, or the rank is no multiple of the number of experts.
    """

    def __init__(self, owner: str, rank: int, experts: int, alpha: float, dropout: float) -> None:
        key = f"trainer.callbacks: {owner}"
        if experts < 1:
            raise UserError(f"{key}.experts must be at least 1, got {experts}.")
        if rank < 1 or rank % experts:
            below, above = rank - rank % experts, rank - rank % experts + experts
            near = f"{below} or {above}" if below > 0 else f"{experts}"
            raise UserError(f"{key}.rank must be a multiple of experts ({experts}), got {rank}; take {near}.")
        if not alpha > 0:
            raise UserError(f"{key}.alpha must be above 0, got {alpha}.")
        if not 0 <= dropout < 1:
            raise UserError(f"{key}.dropout must lie in [0, 1), got {dropout}.")
        self._owner, self._rank, self._experts, self._dropout = owner, rank, experts, dropout
        self.scale = alpha / rank
        self.layers: dict[str, ExpertLinear] = {}

    def adapt(self, module: ContinualLMM, model: nn.Module) -> None:
        """Wraps the linears; see `Mitigation.adapt`.

        Raises:
            UserError: a recipe chooses something that is neither the weight nor the bias of a linear.
        """
        self.layers = {}
        modules = dict(model.named_modules())
        tasks = [linear_weights(self._owner, module, task, modules) for task in module.data.tasks]
        for name in dict.fromkeys(name for weights in tasks for name in weights):
            path = name.removesuffix(".weight")
            linear = modules[path]
            assert isinstance(linear, nn.Linear)
            layer = ExpertLinear(linear, self._experts, self._rank, self.scale).train(linear.training)
            parent, _, leaf = path.rpartition(".")
            setattr(modules[parent], leaf, layer)
            self.layers[name] = layer
            for part in ("experts_A", "router"):
                weight = layer.get_parameter(f"{part}.weight")
                kaiming_uniform_(weight, module.hparams["seed"], f"{path}.{part}.weight")

    def trains(self, module: ContinualLMM, task: Task, trained: Mapping[str, str]) -> dict[str, str]:
        """Experts and routers in the place of the weights that a recipe chose; see `Mitigation.trains`."""
        return {
            f"{name.removesuffix('.weight')}.{part}.weight": f"{group}.{GROUP}"
            for name, group in trained.items()
            if name in self.layers
            for part in _PARTS
        }

    def drop(self, module: ContinualLMM, task: Task | None) -> None:
        """Drops inputs of the experts that a task trains, and of no others."""
        chosen = {} if task is None else module.recipe_of(task).resolve(module.anatomy)
        for name, layer in self.layers.items():
            layer.dropout.p = self._dropout if name in chosen else 0.0


def _linear(width: int, out: int, device: torch.device) -> nn.Linear:
    """A linear of zeros in fp32, without a bias."""
    linear = nn.utils.skip_init(nn.Linear, width, out, bias=False, device=device, dtype=torch.float32)
    assert isinstance(linear, nn.Linear)
    if device.type != "meta":
        nn.init.zeros_(linear.weight)
    return linear
