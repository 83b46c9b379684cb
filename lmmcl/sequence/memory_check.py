"""Whether the settings that save memory and time fit the trainer and the callbacks, before anything is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch import Trainer

from lmmcl.errors import UserError
from lmmcl.optim.trained_bytes import rounding_of
from lmmcl.parallel.strategy import FSDP2Strategy
from lmmcl.parallel.tensor_parallel import check_beside

if TYPE_CHECKING:
    from lmmcl.model import ContinualLMM


def check_memory_settings(trainer: Trainer, module: ContinualLMM) -> None:
    """Checks ``train_dtype``, ``optimizer``, ``frozen_bits`` and ``compile`` of the model against what runs them.

    Raises:
        UserError: they cannot be right together; names the key and the way out.
    """
    settings, strategy = module.hparams, trainer.strategy
    sharded = isinstance(strategy, FSDP2Strategy)
    if rounding_of(settings) is not None:
        if not module.bf16:
            raise UserError(
                f"model.train_dtype: bf16 needs trainer.precision: bf16-mixed, got {trainer.precision}; under 32-true "
                "what trains is computed in fp32."
            )
        for callback in module.stage_callbacks:
            if reason := callback.needs_masters():
                raise UserError(
                    f"model.train_dtype: bf16 cannot be used with {callback.name}: {reason} Use train_dtype: fp32, or "
                    "leave it out."
                )
    if bits := settings["frozen_bits"]:
        if sharded:
            raise UserError(
                f"model.frozen_bits: {bits} runs on one process or ddp; fsdp2 would cast bytes to bf16 as it gathers "
                "them. Leave it out, since fsdp2 shares frozen weights out over the processes, or take "
                "trainer.strategy: ddp."
            )
        for mitigation in module.mitigations:
            if reason := mitigation.writes_frozen():
                raise UserError(f"model.frozen_bits: {bits} cannot be used with {mitigation.name}: {reason}")
    kind = settings["optimizer"]
    if kind == "adamw_offload" and strategy.root_device.type != "cuda":
        raise UserError(
            f"model.optimizer: adamw_offload moves moments from a GPU to the host, and this runs on "
            f"{strategy.root_device.type}; use adamw_8bit to save memory here."
        )
    if kind == "adamw_offload" and sharded:
        raise UserError(
            "model.optimizer: adamw_offload runs on one process or ddp; fsdp2 shares the moments out over the "
            "processes: use adamw, or adamw_8bit."
        )
    if getattr(strategy, "tensor_parallel", 1) > 1:
        check_beside(settings)
