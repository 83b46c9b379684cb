"""Folds a peft adapter into its base model, whatever kind it is, with sums in fp32."""

from __future__ import annotations

import warnings
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from peft import PeftConfig, PeftModel, PeftType
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from torch import nn
from transformers.utils.peft_utils import find_adapter_config_file

from lmmcl.errors import UserError

_NO_WEIGHTS = {PeftType.XLORA, PeftType.ADAPTION_PROMPT, PeftType.MULTITASK_PROMPT_TUNING}
_SHARED = ("vblora_vector_bank", ".tinylora_v.", ".unilora_theta_d.")
"""Entries that layers share with one entry of the model, which alone is saved."""


def is_adapter(path: str, revision: str | None = None) -> bool:
    """Whether a folder or hub id holds a peft adapter and no model of its own."""
    folder = Path(path)
    if folder.is_dir():
        return (folder / "adapter_config.json").exists() and not any(folder.glob("model*.safetensors"))
    try:
        return find_adapter_config_file(path, revision=revision) is not None
    except (OSError, ValueError):
        return False


@torch.no_grad()
def fold(model: nn.Module, path: str, revision: str | None = None) -> nn.Module:
    """The model with the adapter's change in its weights, each rounded once to the dtype that it had.

    peft itself folds (every variant of LoRA, and all other kinds that are a change of weights), layer by layer and in
    fp32: in bf16 it would round the change first, and the sum again.

    Args:
        model: the adapter's base model; it is changed in place.
        path: folder or hub id of the adapter.
        revision: on the hub.

    Raises:
        UserError: the adapter is no change of weights, does not fit the model, or cannot be read.
    """
    try:
        config = PeftConfig.from_pretrained(path, revision=revision)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"TUNED: {path}: its adapter_config.json cannot be read ({_line(error)}).") from error
    if config.is_prompt_learning or config.peft_type in _NO_WEIGHTS:
        raise UserError(
            f"TUNED: {path}: an adapter must be a change of weights, such as LoRA, and {config.peft_type.value} is "
            "none: there is nothing to interpolate. Adapters of that kind cannot be audited."
        )
    folder = Path(path)
    if folder.is_dir() and not (folder / SAFETENSORS_WEIGHTS_NAME).exists():
        held = (
            "adapter_model.bin, a pickle, which is not read: save it again"
            if any(folder.glob("*.bin"))
            else "none"
        )
        raise UserError(f"TUNED: {path} must hold {SAFETENSORS_WEIGHTS_NAME}, it holds {held}.")
    config.inference_mode = True
    mapping: dict[str, str] = getattr(model, "_checkpoint_conversion_mapping", None) or {}
    try:
        with warnings.catch_warnings():
            # peft 0.21 asks transformers in an old way whether activations are recomputed.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
            # In the base's dtype, bf16 as a rule, factors would be rounded when they are read.
            wrapped = PeftModel(model, config, autocast_adapter_dtype=True)
            loaded: Any = wrapped.load_adapter(
                path,
                "default",
                torch_device="cpu",
                autocast_adapter_dtype=True,
                key_mapping=mapping,
                revision=revision,
            )
            missing = [key for key in loaded.missing_keys if not any(word in key for word in _SHARED)]
            if odd := [*missing, *loaded.unexpected_keys]:
                raise UserError(
                    f"TUNED: {path}: an adapter must fit BASE tensor by tensor; {len(odd)} do not, for example "
                    f"{odd[0]}. Give the base model that it was made on."
                )
            _merge(wrapped)
            folded: nn.Module = wrapped.unload()
            return folded
    except (
        ValueError,
        TypeError,
        KeyError,
        RuntimeError,
        OSError,
        NotImplementedError,
        UnpicklingError,
    ) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"TUNED: {path}: the adapter cannot be folded into BASE ({_line(error)}); give the base model that it "
            "was made on, or merge it with the tool that made it."
        ) from error


def _merge(wrapped: PeftModel) -> None:
    """Merges every layer on its own: only one of them is held in fp32 at a time."""
    inside: tuple[str, ...] = ()
    for path, layer in wrapped.named_modules():
        if not isinstance(layer, BaseTunerLayer) or path.startswith(inside or ("\0",)):
            continue
        inside = (*inside, f"{path}.")
        base: Any = layer.get_base_layer()
        dtypes = {name: parameter.dtype for name, parameter in base.named_parameters()}
        layer.float()  # type: ignore[attr-defined]  # every tuner layer is a module, too
        layer.merge()
        for name, parameter in base.named_parameters():
            parameter.data = parameter.data.to(dtypes[name])


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
