"""Rows that the processor made one by one, as one batch: what it made of a row's pictures can be told apart again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from lmmcl.errors import UserError

Place = tuple[int, tuple[int, ...]]
"""Where a row's part of an input begins along its first dimension, and the shape of that part."""


class NotApartError(Exception):
    """The processor makes inputs that nothing general can lay together."""


def unforeseen(reason: Exception) -> UserError:
    """What ends a training whose later rows do not allow what its first rows were proven to allow."""
    return UserError(
        f"data.cache_features: the features of a training row cannot be kept ({reason}), which the first rows did not "
        "show. Set data.cache_features: false and go on with --ckpt_path last."
    )


@dataclass(frozen=True)
class RowPictures:
    """What the processor makes of the pictures of one row alone.

    Args:
        key: SHA-256 of it: of names, types, shapes and values.
        places: where it stands among the inputs of a batch.
    """

    key: str
    places: Mapping[str, Place]

    def inputs(self, whole: Mapping[str, Any]) -> dict[str, Tensor]:
        """The row's own inputs, in memory of their own: what is computed of them depends on no other row."""
        found = {}
        for name, (first, shape) in self.places.items():
            part = whole[name][first : first + shape[0]]
            found[name] = part[(slice(None), *(slice(size) for size in shape[1:]))].clone()
        return found


def laid_together(
    made: Sequence[Mapping[str, Any]], pad: int
) -> tuple[dict[str, Any], list[RowPictures | None]]:
    """The batch that the processor would have made of all rows.

    Inputs of tokens are padded on the right; all others are laid one after the other, those of different shapes with
    zeros behind them.

    Args:
        made: what the processor made of each row.
        pad: token id of padding.

    Returns:
        inputs of the batch, and of each row what the processor made of its pictures; None: it has none.

    Raises:
        NotApartError: an input is no tensor.
    """
    texts: list[dict[str, Tensor]] = []
    pixels: list[dict[str, Tensor]] = []
    for one in made:
        for name, value in one.items():
            if not isinstance(value, Tensor):
                raise NotApartError(f"its processor gives {name} as {type(value).__name__}")
        shape = one["input_ids"].shape
        texts.append({name: value for name, value in one.items() if _of_tokens(name, value, shape)})
        pixels.append({name: value for name, value in one.items() if name not in texts[-1]})
    inputs: dict[str, Any] = {}
    for name in dict.fromkeys(name for text in texts for name in text):
        inputs[name] = _padded(texts, name, pad if name == "input_ids" else 0)
    places: list[dict[str, Place]] = [{} for _ in made]
    for name in dict.fromkeys(name for one in pixels for name in one):
        inputs[name] = _stacked(pixels, name, places)
    pictures = [
        RowPictures(_checksum(one), place) if one else None for one, place in zip(pixels, places, strict=True)
    ]
    return inputs, pictures


def _of_tokens(name: str, value: Tensor, shape: torch.Size) -> bool:
    return not value.is_floating_point() and not name.startswith("pixel_") and value.shape == shape


def _padded(texts: Sequence[Mapping[str, Tensor]], name: str, padding: int) -> Tensor:
    """(rows, length); a row without this input, as one without pictures may be, has zeros there."""
    lengths = [text["input_ids"].shape[1] for text in texts]
    like = next(text[name] for text in texts if name in text)
    whole = like.new_full((len(texts), max(lengths)), padding)
    for index, (text, length) in enumerate(zip(texts, lengths, strict=True)):
        whole[index, :length] = text[name][0] if name in text else 0
    return whole


def _stacked(pixels: Sequence[Mapping[str, Tensor]], name: str, places: Sequence[dict[str, Place]]) -> Tensor:
    parts = [one[name] for one in pixels if name in one]
    if len({(part.dim(), part.dtype) for part in parts}) > 1 or parts[0].dim() == 0:
        raise NotApartError(f"its processor gives {name} in several kinds")
    sizes = [max(part.shape[dim] for part in parts) for dim in range(1, parts[0].dim())]
    whole = parts[0].new_zeros((sum(part.shape[0] for part in parts), *sizes))
    first = 0
    for one, place in zip(pixels, places, strict=True):
        if name in one:
            place[name] = first, tuple(one[name].shape)
            part = whole[first : first + one[name].shape[0]]
            part[(slice(None), *(slice(size) for size in one[name].shape[1:]))] = one[name]
            first += one[name].shape[0]
    return whole


def _checksum(inputs: Mapping[str, Tensor]) -> str:
    total = sha256()
    for name in sorted(inputs):
        value = inputs[name].contiguous()
        total.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
