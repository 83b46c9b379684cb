"""Whether BASE and TUNED are the same model with other values: their configs, and the names and shapes of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lmmcl.errors import UserError

_BOOKKEEPING = {
    "transformers_version",
    "architectures",
    "dtype",
    "torch_dtype",
    "use_cache",
    "initializer_range",
    "initializer_factor",
    "attn_implementation",
    "gradient_checkpointing",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "problem_type",
    "id2label",
    "label2id",
    "eos_token_id",
    "bos_token_id",
    "pad_token_id",
    "chunk_size_feed_forward",
    "is_encoder_decoder",
    "tie_word_embeddings",  # seen in the tensors themselves
}
"""Keys of a config that change no forward pass in evaluation, or show in names and shapes."""


def refuse_other_config(base: Any, tuned: Any) -> None:
    """Raises UserError, naming keys and values, where two configs describe models that compute differently."""
    before, after = _flat(base.to_dict()), _flat(tuned.to_dict())
    if base.model_type != tuned.model_type:
        raise UserError(
            f"TUNED must be the same model as BASE with other values; BASE is {base.model_type}, TUNED is "
            f"{tuned.model_type}."
        )
    odd = [
        f"{key} {before.get(key)!r} against {after.get(key)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    if odd:
        more = f" and {len(odd) - 4} more" if len(odd) > 4 else ""
        resized = (
            " Its embeddings were resized: mixing needs the same vocabulary."
            if "vocab_size" in odd[0]
            else ""
        )
        raise UserError(
            f"TUNED must be the same model as BASE with other values; config.json differs in {'; '.join(odd[:4])}"
            f"{more}.{resized}"
        )


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        if key.startswith("_") or key in _BOOKKEEPING or "dropout" in key:
            continue
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def refuse_other_tensors(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor]) -> None:
    """Raises UserError, naming one, where two models hold other tensors or the same in other shapes."""
    for here, there, one, other in (("BASE", "TUNED", base, tuned), ("TUNED", "BASE", tuned, base)):
        if odd := sorted(one.keys() - other.keys()):
            raise UserError(
                f"BASE and TUNED must hold the same tensors; {len(odd)} are in {here} and not in {there}, for example "
                f"{odd[0]}."
            )
    odd = [name for name in base if base[name].shape != tuned[name].shape]
    if odd:
        shapes = f"{tuple(base[odd[0]].shape)} against {tuple(tuned[odd[0]].shape)}"
        raise UserError(
            f"BASE and TUNED must hold tensors of the same shapes; {len(odd)} differ, for example {odd[0]}: {shapes}. "
            "Embeddings that were resized cannot be mixed: give a base that was resized in the same way."
        )
