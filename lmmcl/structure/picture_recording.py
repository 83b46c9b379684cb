"""What the functions on a picture's path returned: outputs of transformers, kept and given again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from torch import Tensor
from transformers.utils import ModelOutput

Output = TypeVar("Output", bound=ModelOutput)

FEATURES = "get_image_features"
"""transformers' name of the method that takes pixels to what enters the language model."""
_INNER = ("last_hidden_state", "hidden_states", "attentions")
"""What the tower also returns and no language model reads where there are pooled features; it is the most of it."""


@dataclass(frozen=True)
class Point:
    """A function on the picture's path.

    Args:
        path: of the module.
        method: its name there.
    """

    path: str
    method: str


@dataclass
class Recording:
    """What the points of a forward returned, in the order of their calls.

    Args:
        calls: point and output; an output is what transformers returns there, without a gradient.
        words: names of the language model's parameters that the path used, too: some models look up embeddings.
    """

    calls: list[tuple[Point, Any]] = field(default_factory=list)
    words: set[str] = field(default_factory=set)
    _versions: list[int] = field(default_factory=list)

    def add(self, point: Point, output: Any) -> None:
        """Keeps what a point returned."""
        kept = needed(output) if point.method == FEATURES else copied(output)
        self.calls.append((point, kept))
        self._versions += _versions(kept)

    def intact(self) -> bool:
        """Whether nobody has written into it since."""
        return [one for _, output in self.calls for one in _versions(output)] == self._versions


def parts_of(output: ModelOutput) -> dict[str, Any]:
    """The fields of an output, and what its model set on it beside them."""
    names = [one.name for one in fields(output)]  # type: ignore[arg-type]  # outputs are dataclasses
    beside = [name for name in vars(output) if name not in names and not name.startswith("_")]
    return {name: getattr(output, name) for name in (*names, *beside)}


def made_of(kind: type[Output], parts: Mapping[str, Any]) -> Output:
    """An output of a class with the parts that `parts_of` told."""
    names = [one.name for one in fields(kind)]  # type: ignore[arg-type]  # outputs are dataclasses
    output = kind(**{name: parts[name] for name in names})
    for name in parts.keys() - set(names):
        setattr(output, name, parts[name])
    return output


def copied(output: Any) -> Any:
    """An output in a container of its own: who receives it may set a field."""
    return made_of(type(output), parts_of(output)) if isinstance(output, ModelOutput) else output


def needed(output: Any) -> Any:
    """An output without the tower's inner states, where it has features beside them."""
    if not isinstance(output, ModelOutput) or getattr(output, "pooler_output", None) is None:
        return copied(output)
    parts = parts_of(output)
    return made_of(type(output), {**parts, **{name: None for name in _INNER if name in parts}})


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors of a value, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, ModelOutput):
        yield from tensors_in(list(parts_of(value).values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from tensors_in(one)


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same value with other tensors."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, ModelOutput):
        return made_of(type(value), {name: map_tensors(one, change) for name, one in parts_of(value).items()})
    if type(value) in (list, tuple):
        return type(value)(map_tensors(one, change) for one in value)
    return value


def _versions(output: Any) -> list[int]:
    """How often each tensor was written into; those of inference mode do not count."""
    return [0 if tensor.is_inference() else tensor._version for tensor in tensors_in(output)]
