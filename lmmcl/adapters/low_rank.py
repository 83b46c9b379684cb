"""Low-rank adapters on the linears of a recipe, one pair of matrices a task, through peft's layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from peft import LoraConfig
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from lmmcl.adapters.first_values import kaiming_uniform_
from lmmcl.adapters.fold import Fold, folded
from lmmcl.adapters.linears import linear_weights
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.weights import whole

if TYPE_CHECKING:
    from lmmcl.model import ContinualLMM

GROUP = "lora"
"""Last part of the name of an adapter's group: that of ``llm.mlp.up`` is ``llm.mlp.up.lora``."""


class LowRankAdapters:
    """W x + s Σ_k B_k A_k dropout(x), s = α / r, with one A_k (r, in) and B_k (out, r) for every task k.

    Hu et al., 2021, arXiv 2106.09685, section 4.1. A_k is drawn from a Kaiming uniform distribution as in the authors'
    and peft's code, by a counter of its own (seed, parameter), and B_k is 0, so that a new adapter changes nothing.
    Every task's adapters lie on the linears that its recipe chooses; their biases stay frozen.

    Args:
        owner: class of the callback, for errors.
        rank: r, at least 1.
        alpha: α, above 0.
        dropout: of the input of the adapter that trains, in [0, 1).

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(self, owner: str, rank: int, alpha: float, dropout: float) -> None:
        if rank < 1:
            raise UserError(f"trainer.callbacks: {owner}.rank must be at least 1, got {rank}.")
        if not alpha > 0:
            raise UserError(f"trainer.callbacks: {owner}.alpha must be above 0, got {alpha}.")
        if not 0 <= dropout < 1:
            raise UserError(f"trainer.callbacks: {owner}.dropout must lie in [0, 1), got {dropout}.")
        self._owner = owner
        self._config = LoraConfig(
            r=rank,
            lora_alpha=alpha,  # type: ignore[arg-type]  # peft says int and divides
            lora_dropout=dropout,
            init_lora_weights=False,
        )
        self.layers: dict[str, LoraLinear] = {}

    @property
    def scale(self) -> float:
        """The factor s = α / r."""
        return float(self._config.lora_alpha / self._config.r)

    def adapt(self, module: ContinualLMM, model: nn.Module) -> None:
        """Wraps the linears that any task's recipe chooses; see `Mitigation.adapt`.

        Raises:
            UserError: a recipe chooses something that is neither the weight nor the bias of a linear.
        """
        self.layers = {}
        modules = dict(model.named_modules())
        tasks = [linear_weights(self._owner, module, task, modules) for task in module.data.tasks]
        for task, names in zip(module.data.tasks, tasks, strict=True):
            for name in names:
                self._add(module, modules, name, key_of(module, task))
        self.activate([], None)

    def trains(self, module: ContinualLMM, task: Task, trained: Mapping[str, str]) -> dict[str, str]:
        """A and B of a task in the place of the weights that its recipe chose; see `Mitigation.trains`."""
        key = key_of(module, task)
        return {
            adapter: f"{group}.{GROUP}"
            for name, group in trained.items()
            if name in self.layers and key in self.layers[name].lora_A
            for adapter in names_of(name, key)
        }

    def folds(self, module: ContinualLMM, task: Task) -> Sequence[Fold]:
        """See `Mitigation.folds`."""
        key = key_of(module, task)
        adapted = [name for name, layer in self.layers.items() if key in layer.lora_A]
        pairs = {name: names_of(name, key) for name in adapted}
        return [Fold(name, up, down, self.scale) for name, (down, up) in pairs.items()]

    def activate(self, keys: Sequence[str], trained: str | None) -> None:
        """Makes the forward add the adapters of some tasks, with dropout before the one that is trained only."""
        for layer in self.layers.values():
            layer.set_adapter([key for key in keys if key in layer.lora_A], inference_mode=True)
            for key, dropout in layer.lora_dropout.items():
                if isinstance(dropout, nn.Dropout):
                    dropout.p = self._config.lora_dropout if key == trained else 0.0

    def base_bytes(self) -> int:
        """Size of all adapted weights, whole, as they are held."""
        weights = [layer.weight for layer in self.layers.values()]
        return sum(weight.numel() * weight.element_size() for weight in weights)

    def down_bytes(self) -> int:
        """Size of A of all tasks, whole, in fp32."""
        pairs = [self.pair(name, key) for name, layer in self.layers.items() for key in layer.lora_A]
        return sum(4 * down.numel() for down, _ in pairs)

    def keys(self, name: str) -> set[str]:
        """Of the tasks that have an adapter on a weight."""
        return set(self.layers[name].lora_A)

    def pair(self, name: str, key: str) -> tuple[Tensor, Tensor]:
        """A and B of a task on a weight, sharded as they are."""
        down, up = self.layers[name].lora_A[key].weight, self.layers[name].lora_B[key].weight
        assert isinstance(down, Tensor) and isinstance(up, Tensor)
        return down, up

    def merged(self, name: str, base: Tensor, keys: Sequence[str]) -> Tensor:
        """W_0 + Σ s B_k A_k over some tasks in fp32, whole; collective on shards.

        Args:
            name: of an adapted weight.
            base: W_0, whole.
            keys: of the tasks, in order; those without an adapter on this weight add nothing.
        """
        tensors: dict[str, Tensor] = {}
        folds = []
        for key in (key for key in keys if key in self.keys(name)):
            down, up = names_of(name, key)
            folds.append(Fold(name, up, down, self.scale))
            tensors |= dict(zip((down, up), map(whole, self.pair(name, key)), strict=True))
        return folded(base, folds, tensors.__getitem__)

    def _add(self, module: ContinualLMM, modules: dict[str, nn.Module], name: str, key: str) -> None:
        """Gives a linear the adapter of one more task."""
        path = name.removesuffix(".weight")
        rank, alpha = self._config.r, self._config.lora_alpha
        with torch.device("meta"):  # peft would draw values of its own, in the dtype of the linear
            layer = self.layers.get(name)
            if layer is None:
                layer = LoraLinear(modules[path], key, self._config, r=rank, lora_alpha=alpha)
                parent, _, leaf = path.rpartition(".")
                setattr(modules[parent], leaf, layer)
                self.layers[name] = modules[path] = layer
            else:
                layer.update_layer(key, rank, lora_alpha=alpha, config=self._config)
        device = layer.weight.device
        for part, own in zip((layer.lora_A[key], layer.lora_B[key]), self.pair(name, key), strict=True):
            part.weight = nn.Parameter(torch.zeros(own.shape, dtype=torch.float32, device=device))
        kaiming_uniform_(self.pair(name, key)[0], module.hparams["seed"], names_of(name, key)[0])


def key_of(module: ContinualLMM, task: Task) -> str:
    """Under which peft holds a task's adapters."""
    return f"task_{1 + [other.name for other in module.data.tasks].index(task.name)}"


def names_of(name: str, key: str) -> tuple[str, str]:
    """Parameter names of A and B of an adapted weight."""
    path = name.removesuffix(".weight")
    return f"{path}.lora_A.{key}.weight", f"{path}.lora_B.{key}.weight"
