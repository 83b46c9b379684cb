"""What transformers' modules return, as tensors and plain values, and back: without pickle."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers.utils import ModelOutput

from lmmcl.structure.picture_recording import made_of, parts_of


class UnkeepableError(Exception):
    """A value has a kind that is not kept."""


def taken_apart(value: Any, tensors: dict[str, Tensor]) -> Any:
    """A value as what JSON can hold, its tensors beside it.

    Args:
        value: tensors, plain values, lists, tuples and outputs of transformers, in each other.
        tensors: receives the tensors, contiguous and on the CPU, under names of their own.

    Raises:
        UnkeepableError: there is something else in it.
    """
    if isinstance(value, Tensor):
        name = str(len(tensors))
        # A copy: parts of one tensor would be kept whole each.
        tensors[name] = value.detach().cpu().clone().contiguous()
        return {"tensor": name}
    if value is None or isinstance(value, bool | int | float | str):
        return {"plain": value}
    if isinstance(value, ModelOutput):
        values = {name: taken_apart(one, tensors) for name, one in parts_of(value).items()}
        return {"output": [type(value).__module__, type(value).__qualname__], "values": values}
    if type(value) in (list, tuple):
        return {type(value).__name__: [taken_apart(one, tensors) for one in value]}
    raise UnkeepableError(f"a {type(value).__name__}")


def put_together(found: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The value that `taken_apart` took apart.

    Raises:
        UnkeepableError: it names a class that this process does not have.
    """
    if "tensor" in found:
        return tensors[found["tensor"]]
    if "plain" in found:
        return found["plain"]
    if "list" in found:
        return [put_together(one, tensors) for one in found["list"]]
    if "tuple" in found:
        return tuple(put_together(one, tensors) for one in found["tuple"])
    module, name = found["output"]
    # The model whose output it is has been loaded: nothing is imported because a file says so.
    kind = getattr(sys.modules.get(module), name, None)
    if not (isinstance(kind, type) and issubclass(kind, ModelOutput)):
        raise UnkeepableError(f"{module}.{name}")
    return made_of(kind, {name: put_together(one, tensors) for name, one in found["values"].items()})
