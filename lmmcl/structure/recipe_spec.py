"""How a recipe is written: names, lists and mappings, read into entries, layers and learning rates."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmmcl.errors import UserError

__all__ = ["Part", "RecipeSpec", "nearest", "read_parts", "read_rates"]

_SLICE = re.compile(r"(-?\d*):(-?\d*)")
_KEYS = ("train", "layers", "lr")

_Value = str | int | float | None | list[str | int] | dict[str, float]
RecipeSpec = str | list[str | dict[str, _Value]] | dict[str, _Value] | list[Any] | dict[str, Any]
"""A recipe as YAML holds it. Spelt out because jsonargparse reads a text under ``Any`` as YAML once more: ``"12:"``
would become a mapping. What does not fit is left to our own errors."""


@dataclass(frozen=True)
class Part:
    """One member of a recipe's union: what it takes, and of which decoder layers (None: wherever it lies)."""

    train: tuple[str, ...]
    layers: str | int | tuple[int, ...] | None = None

    @property
    def title(self) -> str:
        """What a table calls it."""
        title = ", ".join(self.train)
        return title if self.layers is None else f"{title} in layers {self.layers}"

    def depths(self, count: int, key: str) -> set[int]:
        """The depths that ``layers`` names, of ``count`` decoder layers.

        Raises:
            UserError: it is none of ``"12:"``, ``-1`` and ``[0, 1, 31]``, or it names no layer that there is.
        """
        layers = self.layers
        if layers is None:
            return set(range(count))
        if isinstance(layers, str) and (ends := _SLICE.fullmatch(layers)):
            start, stop = (int(end) if end else None for end in ends.groups())
            depths = set(range(count)[start:stop])
        elif isinstance(layers, str) and not re.fullmatch(r"-?\d+", layers):
            raise UserError(
                f'{key}.layers: must be a slice such as "12:", a number or a list of numbers, got {layers!r}.'
            )
        else:
            numbers = layers if isinstance(layers, tuple) else (int(layers),)
            if not all(-count <= number < count for number in numbers):
                raise UserError(
                    f"{key}.layers: the model has decoder layers 0 to {count - 1}, got {layers!r}."
                )
            depths = {number % count for number in numbers}
        if not depths:
            raise UserError(
                f"{key}.layers: must name at least one of {count} decoder layers, got {layers!r}."
            )
        return depths


def read_parts(spec: Any, key: str) -> Iterator[Part]:
    """Read what a user wrote.

    Args:
        spec: a name, a mapping with ``train``, or a list of these.
        key: the YAML key it stands under, for errors.

    Raises:
        UserError: it is of another form.
    """
    if isinstance(spec, str) and spec.strip():
        yield Part((spec.strip(),))
    elif isinstance(spec, Mapping):
        yield _read_mapping(spec, key)
    elif _is_list(spec) and len(spec) and not any(_is_list(entry) for entry in spec):
        for entry in spec:
            yield from read_parts(entry, key)
    else:
        raise UserError(f"{key}: must be a name, a mapping with train, or a list of these, got {spec!r}.")


def read_rates(spec: Any, key: str) -> dict[str, float]:
    """Read the learning rates of all mappings in a recipe: group or pattern of groups to rate.

    Raises:
        UserError: a rate is not a positive number, or one group has two.
    """
    rates: dict[str, float] = {}
    for entry in spec if _is_list(spec) else [spec]:
        written = entry.get("lr") if isinstance(entry, Mapping) else None
        if written is not None and not isinstance(written, Mapping):
            raise UserError(f"{key}.lr: must map groups to rates, such as {{vision: 2e-6}}, got {written!r}.")
        for group, rate in (written or {}).items():
            value = _rate(rate, f"{key}.lr.{group}")
            if rates.setdefault(str(group), value) != value:
                raise UserError(f"{key}.lr: {group} must have one rate, got {rates[group]:g} and {value:g}.")
    return rates


def nearest(word: str, known: Iterable[str]) -> str:
    """A question that ends an error: ``Did you mean ...?``, empty where nothing is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]}?" if near else ""


def _read_mapping(spec: Mapping[str, Any], key: str) -> Part:
    for word in spec:
        if word not in _KEYS:
            raise UserError(f"{key}: may hold {', '.join(_KEYS)}, got {word!r}.{nearest(str(word), _KEYS)}")
    train = spec.get("train")
    entries = [train] if isinstance(train, str) else train
    if not _is_list(entries) or not entries or not all(isinstance(entry, str) and entry for entry in entries):
        raise UserError(f"{key}.train: must be a name or a list of names, got {train!r}.")
    layers: Any = spec.get("layers")
    if _is_list(layers) and all(type(number) is int for number in layers):
        layers = tuple(layers)
    if not (layers is None or isinstance(layers, str | tuple) or type(layers) is int):
        raise UserError(
            f'{key}.layers: must be a slice such as "12:", a number or a list of numbers, got {layers!r}.'
        )
    return Part(tuple(entries), layers)


def _rate(rate: Any, key: str) -> float:
    # YAML 1.1 reads 2e-6 as a string, for want of a dot.
    try:
        value = float(rate)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 < value < math.inf:
        raise UserError(f"{key}: must be a positive number, got {rate!r}.")
    return value


def _is_list(spec: Any) -> bool:
    return isinstance(spec, Sequence) and not isinstance(spec, str)
