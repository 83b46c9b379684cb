"""Turns a checkpoint into the model that a sequence trains: masters, checkpointing, shards, compiled layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.strategies import Strategy
from torch import nn

from lmmcl.building.attention import attention_for
from lmmcl.building.compiled_layers import compile_layers
from lmmcl.building.freed_memory import keep_freed_memory
from lmmcl.building.frozen_linear import hold_in_bits
from lmmcl.building.masters import check_bf16, hold_masters
from lmmcl.loading import Checkpoint
from lmmcl.optim.trained_bytes import rounding_of
from lmmcl.parallel.shard_loading import fill_, load_once, take_values
from lmmcl.parallel.strategy import FSDP2Strategy, settle, shard
from lmmcl.parallel.tensor_parallel import check_plan
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.recomputed import parts_of, recompute
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
        """The model as the checkpoint has it; what will be sharded has values on the first process only."""
        if self.strategy.root_device.type == "cpu":
            keep_freed_memory()
        attention = self.settings["attn_implementation"]
        attention = attention or attention_for(self.strategy.root_device, self.bf16, self.checkpoint)
        if (size := getattr(self.strategy, "tensor_parallel", 1)) > 1:
            check_plan(self.checkpoint.skeleton(torch.float32, attention), size)
        build = load_once if isinstance(self.strategy, FSDP2Strategy) else Checkpoint.model
        return build(self.checkpoint, not self.bf16, self.settings["seed"], attention)

    def finish(self, model: nn.Module, anatomy: Anatomy, trained: Collection[str]) -> None:
        """Makes it ready to train, in place.

        Args:
            model: as it was loaded, with its adapters.
            anatomy: of the model as it was loaded.
            trained: names of what any task of the sequence trains.
        """
        values = take_values(model) if isinstance(self.strategy, FSDP2Strategy) else {}
        dtype = torch.float32 if rounding_of(self.settings) is None else torch.bfloat16
        if dtype == torch.bfloat16:
            check_bf16(model, [name for name in trained if name in anatomy.numel], self.checkpoint.path)
        hold_masters(model, trained, not self.bf16, dtype)
        if bits := self.settings["frozen_bits"]:
            hold_in_bits(model, anatomy.decoder_layers, anatomy.numel, trained, bits)
        recompute(model, anatomy, trained, parts_of(self.settings["activation_checkpointing"]))
        if isinstance(self.strategy, FSDP2Strategy):
            units = [*anatomy.decoder_layers, *anatomy.vision_blocks]
            masters = [p for name, p in parameters_of(model).items() if name in trained]
            root = shard(model, units, self.strategy, self.bf16, masters)
            fill_(model, values, self.strategy.root_device)
            settle(root)
        if self.settings["compile"]:
            compile_layers(model, anatomy.decoder_layers)
