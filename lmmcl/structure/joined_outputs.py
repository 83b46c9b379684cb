"""One output of transformers out of those of its parts: how the parts lie in it is read from an example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from lmmcl.structure.picture_recording import made_of, parts_of


class UnjoinableError(Exception):
    """The output of a batch is not put together from those of its rows."""


@dataclass(frozen=True)
class Joint:
    """How outputs of one place are put together.

    Args:
        how: ``cat`` tensors along the first dimension, ``extend`` lists, ``each`` entry of lists or outputs by itself,
            or ``same``: every part has it, and so has the whole.
        of: the entries of ``each``.
    """

    how: str
    of: Mapping[Any, Joint]

    def __call__(self, parts: Sequence[Any]) -> Any:
        """The whole.

        Args:
            parts: at least one, in order.
        """
        first = parts[0]
        if self.how == "cat":
            return torch.cat(list(parts))
        if self.how == "extend":
            return type(first)(one for part in parts for one in part)
        if self.how == "same":
            return first
        if isinstance(first, ModelOutput):
            split = [parts_of(part) for part in parts]
            return made_of(
                type(first), {name: one([s[name] for s in split]) for name, one in self.of.items()}
            )
        return type(first)(one([part[place] for part in parts]) for place, one in self.of.items())


def joint_of(whole: Any, parts: Sequence[Any]) -> Joint:
    """How a whole is put together from its parts, by kinds and shapes.

    Args:
        whole: tensors, plain values, lists, tuples and outputs, in each other.
        parts: of it, at least two.

    Raises:
        UnjoinableError: it is not, or in a way that nothing general covers.
    """
    if any(type(part) is not type(whole) for part in parts):
        raise UnjoinableError(f"{type(whole).__name__} of {type(parts[0]).__name__}")
    if isinstance(whole, Tensor):
        shapes = [tuple(part.shape) for part in parts]
        fits = all(shape and shape[1:] == tuple(whole.shape[1:]) for shape in shapes)
        if not fits or sum(shape[0] for shape in shapes) != whole.shape[0]:
            raise UnjoinableError(f"a tensor of {tuple(whole.shape)} of such of {shapes}")
        return Joint("cat", {})
    if isinstance(whole, ModelOutput):
        found, split = parts_of(whole), [parts_of(part) for part in parts]
        if any(one.keys() != found.keys() for one in split):
            raise UnjoinableError("outputs with different fields")
        return Joint("each", {name: joint_of(one, [s[name] for s in split]) for name, one in found.items()})
    if isinstance(whole, list | tuple):
        lengths = [len(part) for part in parts]
        if len(whole) == sum(lengths):
            return Joint("extend", {})
        if any(length != len(whole) for length in lengths):
            raise UnjoinableError(f"{len(whole)} entries of {lengths}")
        return Joint("each", {i: joint_of(one, [part[i] for part in parts]) for i, one in enumerate(whole)})
    if any(part != whole for part in parts):
        raise UnjoinableError(f"{whole!r} of {list(parts)!r}")
    return Joint("same", {})
