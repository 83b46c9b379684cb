"""Turns a checkpoint into the model that a sequence trains: masters, checkpointing, shards, compiled layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from lightning.pytorch.strategies import Strategy
from torch import nn

from lmmcl.anatomy import Anatomy
from lmmcl.loading import Checkpoint, hold_masters
from lmmcl.strategy import FSDP2Strategy, shard
from lmmcl.weights import parameters_of


@dataclass(frozen=True)
class Build:
    """How a model is built; `load` comes first, then adapters are added, then `finish`.

    Args:
        checkpoint: what is loaded.
        settings: the arguments of `lmmcl.model.ContinualLMM`.
        strategy: where the model runs.
        bf16: whether forwards compute in bf16.
    """

    checkpoint: Checkpoint
    settings: Mapping[str, Any]
    strategy: Strategy
    bf16: bool

    def load(self) -> nn.Module:
        """The model as the checkpoint has it."""
        # Torch's fused attention has a slow backward on a CPU: a step of the mini model took 8 times as long.
        on_cpu = self.strategy.root_device.type == "cpu"
        attention = self.settings["attn_implementation"] or ("eager" if on_cpu else None)
        return self.checkpoint.model(not self.bf16, self.settings["seed"], attention)

    def finish(self, model: nn.Module, anatomy: Anatomy, trained: Collection[str]) -> None:
        """Makes it ready to train, in place.

        Args:
            model: as it was loaded, with its adapters.
            anatomy: of the model as it was loaded.
            trained: names of what any task of the sequence trains.
        """
        hold_masters(model, trained, not self.bf16)
        if self.settings["activation_checkpointing"]:
            model.activation_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
        if isinstance(self.strategy, FSDP2Strategy):
            units = [*anatomy.decoder_layers, *anatomy.vision_blocks]
            masters = [p for name, p in parameters_of(model).items() if name in trained]
            shard(model, units, self.strategy, self.bf16, masters)
        if self.settings["compile"]:
            # Layer by layer: around the layers, the hook and the pictures would break the graph at every length.
            for path in anatomy.decoder_layers:
                model.get_submodule(path).compile(dynamic=True)
