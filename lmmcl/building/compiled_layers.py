"""Compiles decoder layers so that they compile again for a few kinds of forwards and never for a length."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch._dynamo
from torch import nn

_KINDS = 64
"""Forwards of different kinds that torch may compile: with and without a gradient, one sequence or several, padded or
packed, for every set of trained parameters. Beyond its own 8 it would run the rest as they are, and only log it."""


def compile_layers(model: nn.Module, paths: Iterable[str]) -> None:
    """Compiles layers in place, each by itself: around them, pictures and hooks would break the graph at every length.

    A forward with a cache runs as it is: torch would compile it for each layer apart, since the cache knows them by
    their numbers, and again for every state of the cache.

    Args:
        model: ready to train.
        paths: of its decoder layers.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _KINDS)
    for path in paths:
        layer = model.get_submodule(path)
        layer.compile(dynamic=True)
        compiled = layer._compiled_call_impl
        assert compiled is not None
        layer._compiled_call_impl = _without_cache(layer, compiled)


def _without_cache(layer: nn.Module, compiled: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        chosen = compiled if named.get("past_key_values") is None else layer._call_impl
        return chosen(*arguments, **named)

    return call
