"""What attention and MLP of every decoder layer add to the residual, read while a model runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lmmcl.data.batches.batch import IGNORED
from lmmcl.structure.anatomy import Anatomy

BRANCHES = {
    "attention": ("llm.attn.o", "llm.cross_attn.o", "llm.mixer"),
    "MLP": ("llm.mlp.down",),
}
"""By which group's parameters a branch of a decoder layer is known; the first that a layer has counts."""


@dataclass
class _Layer:
    """One decoder layer under watch: its branches' outputs while it runs, and what is kept of them."""

    depth: int
    branches: Mapping[nn.Module, str]
    running: dict[str, Tensor] = field(default_factory=dict)


class BranchOutputs:
    """What each decoder layer's attention and MLP add to the residual, at the positions that predict an answer token.

    A norm or dropout that stands between a branch and the sum (Gemma 3) belongs to the branch: it is known by being
    called on the branch's own output.

    Args:
        model: whose layers are hooked while `watching`.
        anatomy: tells which part of a layer is which.
    """

    def __init__(self, model: nn.Module, anatomy: Anatomy) -> None:
        self._model = model
        self._layers = {path: _branches(model, anatomy, path) for path in anatomy.decoder_layers}
        self.names = [
            f"layer {layer.depth} {kind}"
            for layer in self._layers.values()
            for kind in BRANCHES
            if kind in layer.branches.values()
        ]
        self._kept: dict[str, Tensor] = {}
        self._positions: Tensor | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks the layers for as long as it is open."""
        handles = []
        for path, layer in self._layers.items():
            module = self._model.get_submodule(path)
            hook = _on_child(layer)
            handles += [child.register_forward_hook(hook, with_kwargs=True) for child in module.children()]
            handles.append(module.register_forward_hook(self._on_layer(layer)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def at(self, labels: Tensor) -> None:
        """Sets the positions of the next forward: those before each answer token of the expanded sequence.

        Args:
            labels: (batch, length), pictures expanded.
        """
        self._positions, self._kept = labels, {}

    def take(self) -> Tensor:
        """Outputs of all branches in the last forward, (branches, tokens, width), in the order of ``names``."""
        missing = [name for name in self.names if name not in self._kept]
        if missing:
            raise RuntimeError(f"{missing[0]} did not run in the model's forward")
        found, self._kept = torch.stack([self._kept[name] for name in self.names]), {}
        return found

    def _on_layer(self, layer: _Layer) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            labels = self._positions
            assert labels is not None
            positions = labels[:, 1:] != IGNORED
            for kind, whole in layer.running.items():
                each = whole.reshape(len(labels), -1, whole.shape[-1])
                # A state at position t predicts the token at t + 1; what a model puts before the tokens comes first.
                self._kept[f"layer {layer.depth} {kind}"] = each[:, -labels.shape[1] :][:, :-1][
                    positions
                ].clone()
            layer.running.clear()

        return hook


def _on_child(layer: _Layer) -> Any:
    def hook(child: nn.Module, inputs: Any, named: Mapping[str, Any], output: Any) -> None:
        made = output[0] if isinstance(output, tuple) else output
        if child in layer.branches:
            layer.running[layer.branches[child]] = made
            return
        given = next((value for value in (*inputs, *named.values()) if isinstance(value, Tensor)), None)
        for kind, value in layer.running.items():
            if value is given:
                layer.running[kind] = made

    return hook


def _branches(model: nn.Module, anatomy: Anatomy, path: str) -> _Layer:
    """The parts of one layer that write into the residual."""
    inside = [name for name in anatomy.numel if name.startswith(f"{path}.")]
    branches: dict[nn.Module, str] = {}
    for kind, groups in BRANCHES.items():
        found = next((name for group in groups for name in inside if anatomy.group_of(name) == group), None)
        if found is not None:
            child = found[len(path) + 1 :].partition(".")[0]
            branches[model.get_submodule(f"{path}.{child}")] = kind
    return _Layer(anatomy.depth[path], branches)
