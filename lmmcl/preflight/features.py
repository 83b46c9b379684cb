"""As many image tokens as image features, without weights: the vision tower runs on the meta device."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lmmcl.data.batches.batch import Batch
from lmmcl.data.batches.collate import Collator
from lmmcl.data.row import Row
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.preflight.finding import Finding, some
from lmmcl.preflight.hollow import hollow
from lmmcl.structure.anatomy import Anatomy


def image_token(model: nn.Module, processor: Any) -> int | None:
    """Id of the token that stands for an image feature; None where neither config nor processor names one."""
    config = getattr(model, "config", None)
    for owner, name in (
        (config, "image_token_id"),
        (config, "image_token_index"),
        (processor, "image_token_id"),
        (getattr(processor, "tokenizer", None), "image_token_id"),
    ):
        if isinstance(value := getattr(owner, name, None), int):
            return value
    return None


def count_features(model: nn.Module, anatomy: Anatomy, batch: Batch) -> int:
    """Image features that a model on the meta device makes of a batch.

    First with pictures on the meta device, where only shapes are computed; an architecture that reads its grids or
    masks as numbers runs with its tower hollow, see `lmmcl.preflight.hollow`.

    Args:
        model: on the meta device.
        anatomy: of the model.
        batch: with ``pixel_values``.

    Raises:
        Exception: of any kind, where an architecture computes its features otherwise.
    """
    owners: list[Any] = [getattr(model, "model", None), model]
    make: Callable[..., Any] = next(
        owner.get_image_features for owner in owners if hasattr(owner, "get_image_features")
    )
    wanted = inspect.signature(make).parameters
    given = {
        name: value
        for name, value in batch.inputs.items()
        if name not in ("input_ids", "attention_mask")
        and (name in wanted or name.startswith(("pixel_", "image_")))
    }
    floats = {
        name for name, value in given.items() if isinstance(value, Tensor) and value.is_floating_point()
    }
    with torch.no_grad():
        try:
            return _rows(
                make(**{name: value.to("meta") if name in floats else value for name, value in given.items()})
            )
        except Exception:  # noqa: BLE001 - the second way tells whether the architecture can be read at all
            dtype = next(model.parameters()).dtype
            with hollow(model, anatomy):
                return _rows(
                    make(
                        **{
                            name: value.to(dtype) if name in floats else value
                            for name, value in given.items()
                        }
                    )
                )


def _rows(features: Any) -> int:
    """Feature vectors in whatever a model returns: a tensor, several, or an output that holds them."""
    pooled = getattr(features, "pooler_output", features)
    if isinstance(pooled, Tensor):
        return pooled.numel() // pooled.shape[-1]
    if isinstance(pooled, tuple | list) and pooled and isinstance(pooled[0], Tensor | list | tuple):
        return sum(_rows(part) for part in pooled if isinstance(part, Tensor | list | tuple))
    raise TypeError(f"{type(features).__name__} is no tensor of features")


def check_features(
    model: nn.Module, anatomy: Anatomy, processor: Any, samples: Iterable[tuple[Task, Row]]
) -> Iterator[Finding]:
    """Compares tokens and features of some rows; says so where an architecture does not allow it.

    Args:
        model: on the meta device.
        anatomy: of the model.
        processor: the checkpoint's.
        samples: rows with pictures.
    """
    token, collator = image_token(model, processor), Collator(processor, None, always_image=False)
    found: list[Finding] = []
    rows = tokens = 0
    for task, row in samples:
        try:
            batch = collator.prompts([row])
        except UserError:
            continue  # told by the check of lengths
        here = 0 if token is None else int((batch.inputs["input_ids"] == token).sum())
        try:
            features = count_features(model, anatomy, batch)
        except Exception as error:  # noqa: BLE001 - an architecture may fail in any way without weights
            yield Finding("warning", "features", "", _not_checked(model, error))
            return
        if token is None:
            yield Finding("warning", "features", "", _not_checked(model, "its config names no image token"))
            return
        rows, tokens = rows + 1, tokens + here
        if here != features:
            text = (
                f"row {row.id!r}: there must be as many image tokens as image features, got {here:,} tokens and "
                f"{features:,} features; the processor is not that of the model, or its files are of another release."
            )
            found.append(Finding("failure", "features", task.name, text))
    yield from some(found)
    if not found:
        text = (
            f"{rows} rows with pictures: {tokens:,} image tokens, as many as image features"
            if rows
            else "no row has pictures"
        )
        yield Finding("ok", "features", "", text)


def _not_checked(model: nn.Module, reason: object) -> str:
    first = next(iter(str(reason).strip().splitlines()), "no reason given")
    kind = type(reason).__name__ if isinstance(reason, Exception) else ""
    said = ": ".join(filter(None, (kind, first)))[:160]
    return f"not checked: {type(model).__name__} makes no features without weights ({said})"
