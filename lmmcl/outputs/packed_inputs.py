"""What a model is given for a packed batch: the positions that it would have made for the samples apart."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

from torch import Tensor, nn

from lmmcl.data.batches.batch import Batch


def inputs_of(model: nn.Module, batch: Batch) -> dict[str, Any]:
    """The keyword arguments of a forward.

    Models whose rotary positions follow the place in a picture (Qwen-VL and its kin) make them in ``get_rope_index``,
    which knows nothing of packing. It is asked about the samples apart, and its answer is laid as the samples are,
    behind the plain positions, which tell such models where samples begin.

    Args:
        model: an image-text-to-text model of transformers.
        batch: padded or packed, on the model's device.
    """
    if batch.segments is None:
        return batch.inputs
    inner = getattr(model, "model", model)
    index: Callable[..., Any] | None = getattr(inner, "get_rope_index", None)
    if index is None:
        return batch.inputs
    plain = batch.inputs["position_ids"]
    if not any(key.endswith("_grid_thw") for key in batch.inputs):  # text alone
        return {**batch.inputs, "position_ids": plain.expand(4, -1, -1)}
    tokens = batch.segments >= 0
    samples, places = batch.segments[tokens], plain[tokens]
    shape = len(batch), int(places.max()) + 1

    def apart(values: Tensor) -> Tensor:
        padded = values.new_zeros(shape)
        padded[samples, places] = values[tokens]
        return padded

    taken = {
        key: apart(value) if isinstance(value, Tensor) and value.shape == plain.shape else value
        for key, value in batch.inputs.items()
        if key in signature(index).parameters
    }
    rotary = index(**taken, attention_mask=apart(tokens.long()))[0]  # (3, samples, longest)
    laid = plain.repeat(4, 1, 1)  # (4, sequences, length)
    laid[1:, tokens] = rotary[:, samples, places].to(laid.dtype)
    return {**batch.inputs, "position_ids": laid}
