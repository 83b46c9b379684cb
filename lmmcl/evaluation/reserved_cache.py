"""A cache of keys and values that is written in place, bit for bit what transformers' own holds.

`DynamicCache` copies all keys and values of a layer at every new token, and holds them twice while it does.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer
from typing_extensions import override

_STEP = 64
"""Fewest positions that are reserved at once."""


class Reserved:
    """A tensor that grows along its positions, in memory that is reserved ahead.

    Args:
        more: positions that will come behind the first ones, at most; whatever comes behind them is copied each time.
    """

    def __init__(self, more: int) -> None:
        self._more = more
        self._limit = 0
        self._memory: Tensor | None = None
        self._filled: Tensor | None = None

    def append(self, held: Tensor, new: Tensor) -> Tensor:
        """What is held with new positions behind it: a view, equal to their concatenation.

        Args:
            held: (batch, heads, positions, width), as the last call returned it, or anything else that has taken its
                place since, which is copied; empty at first.
            new: (batch, heads, new positions, width).
        """
        begin = held.shape[-2] if held.numel() else 0
        end = begin + new.shape[-2]
        memory = self._memory
        if memory is None or held is not self._filled or end > memory.shape[-2] or new.dtype != memory.dtype:
            memory = self._reserve(held, new, begin, end)
        memory[:, :, begin:end] = new
        self._memory, self._filled = memory, memory[:, :, :end]
        return self._filled

    def _reserve(self, held: Tensor, new: Tensor, begin: int, end: int) -> Tensor:
        """Room for a quarter more: answers mostly end long before the longest that is allowed."""
        if not begin:
            self._limit = end + self._more
        positions = max(end, min(end + max(_STEP, end // 4), self._limit))
        batch, heads, _, width = new.shape
        dtype = torch.promote_types(held.dtype, new.dtype)
        memory = new.new_empty((batch, heads, positions, width), dtype=dtype)
        if begin:
            memory[:, :, :begin] = held
        return memory


class ReservedLayer(DynamicLayer):
    """A layer of a `DynamicCache` in reserved memory; for forwards without a gradient.

    Its keys and values are views of what is filled, so that shapes, masks and sums are those of a `DynamicLayer`.
    Whatever replaces them (a crop, a reset, another order of the batch) is taken over by the next update.

    Args:
        more: positions that will come behind the prompt's, at most.
    """

    def __init__(self, more: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers is typed in part
        self._reserved = Reserved(more), Reserved(more)

    @override
    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Writes new keys and values behind those that are held, and returns all of them.

        Args:
            key_states: (batch, heads, new positions, width).
            value_states: (batch, heads, new positions, width).
            args: nothing that matters here.
            kwargs: nothing that matters here.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        keys, values = self._reserved
        self.keys = keys.append(self.keys, key_states)
        self.values = values.append(self.values, value_states)
        return self.keys, self.values


@contextmanager
def reserving(model: Any, max_new_tokens: int) -> Iterator[None]:
    """``model.generate`` reserves the memory of its plain attention layers for as long as this is open.

    The model makes its cache as ever, and only plain layers are replaced: sliding windows, linear attention,
    encoder-decoders and caches of a model's own stay as they are.

    Args:
        model: a transformers model; another is left alone.
        max_new_tokens: longest answer in tokens.
    """
    prepare = getattr(model, "_prepare_cache_for_generation", None)
    if prepare is None:
        yield
        return

    def prepare_reserved(config: Any, inputs: dict[str, Any], *others: Any, **named: Any) -> Any:
        done = prepare(config, inputs, *others, **named)
        cache = inputs.get("past_key_values")
        if type(cache) is DynamicCache:
            # The last token ends an answer, or is the last that is allowed: none looks back at it.
            layers = [
                ReservedLayer(max_new_tokens - 1) if type(layer) is DynamicLayer else layer
                for layer in cache.layers
            ]
            cache.layers = layers
        return done

    model._prepare_cache_for_generation = prepare_reserved
    try:
        yield
    finally:
        del model._prepare_cache_for_generation
