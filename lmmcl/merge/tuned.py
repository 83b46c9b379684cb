"""Opens a tuned model and proves that it is one of the base's kind: the same tensors, of the same shapes and dtypes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lmmcl.errors import UserError
from lmmcl.merge.adapter_folder import open_adapter
from lmmcl.merge.model_folder import ADAPTER, INDEX, SINGLE, ModelFolder, located, open_model
from lmmcl.merge.names import parameter_names
from lmmcl.merge.pieces import FilePieces

_HEAD, _EMBEDDING = "lm_head.weight", "embed_tokens.weight"


def open_tuned(base: ModelFolder, path: str | Path) -> ModelFolder:
    """A model that was tuned from a base, or the base with an adapter, under the base's keys.

    Files that hold an older or newer layout of the same model are read under the names that the base's files have.

    Args:
        base: from `open_base`.
        path: of a model or of a LoRA adapter: a folder, or a hub id.

    Raises:
        UserError: a tensor is in one of them and not in the other, or has another shape or dtype.
    """
    folder = located(str(path))
    whole = (folder / SINGLE).exists() or (folder / INDEX).exists()
    if (folder / ADAPTER).exists() and not whole:
        return open_adapter(base, path)
    tuned = _without_double(open_model(path))
    if set(tuned.keys()) != set(base.keys()):
        tuned = _renamed(base, tuned)
    for key in base.keys():
        _compare(base, tuned, key)
    return tuned


def open_base(path: str | Path) -> ModelFolder:
    """A model, without a head that repeats the embedding it is tied to.

    Raises:
        UserError: see `open_model`; or its weights are quantised, and no sum of them means anything.
    """
    base = open_model(path)
    if "quantization_config" in base.config():
        raise UserError(
            f"{base.name} has quantised weights, which cannot be added; give the model they were made from."
        )
    return _without_double(base)


def _renamed(base: ModelFolder, tuned: ModelFolder) -> ModelFolder:
    """The tuned model under the base's keys, where both are the same model in memory."""
    try:
        here, there = parameter_names(base), parameter_names(tuned)
    except UserError:  # no image-text-to-text model: then the keys must be equal as they are
        here, there = {}, {}
    keys = {name: key for key, name in here.items()}
    places = {key: key if key in base else keys.get(there.get(key, ""), key) for key in tuned.keys()}
    entries = {places[key]: tuned.entry(key) for key in tuned.keys()}
    missing = [key for key in base.keys() if key not in entries]
    extra = [key for key, place in places.items() if place not in base]
    for name, other, odd in ((base.name, tuned.name, missing), (tuned.name, base.name, extra)):
        if odd:
            more = f" ({len(odd)} such tensors)" if len(odd) > 1 else ""
            raise UserError(
                f"{odd[0]} is in {name} and not in {other}{more}; a merge needs models of one architecture."
            )
    if len(entries) != len(places):
        raise UserError(
            f"{tuned.name} holds two tensors for one of {base.name}; a merge needs one architecture."
        )
    return ModelFolder(tuned.name, tuned.folder, entries)


def _compare(base: ModelFolder, tuned: ModelFolder, key: str) -> None:
    if base.shape(key) != tuned.shape(key):
        raise UserError(
            f"{key} has shape {base.shape(key)} in {base.name} and {tuned.shape(key)} in {tuned.name}; a merge needs "
            "models of one architecture and vocabulary."
        )
    if base.dtype(key) != tuned.dtype(key):
        raise UserError(
            f"{key} has dtype {base.dtype(key)} in {base.name} and {tuned.dtype(key)} in {tuned.name}; a merge needs "
            "models of one dtype: save one of them in the other's."
        )


def _without_double(model: ModelFolder) -> ModelFolder:
    """Leaves out a head that the config ties to the embedding and that repeats it: loaders tie it again."""
    if not (model.folder / "config.json").exists() or not _ties(model.config()):
        return model
    heads = [key for key in model.keys() if key.endswith(_HEAD)]
    tables = [key for key in model.keys() if key.endswith(_EMBEDDING)]
    doubles = {head for head in heads for table in tables if _same(model, head, table)}
    kept = {key: model.entry(key) for key in model.keys() if key not in doubles}
    return ModelFolder(model.name, model.folder, kept)


def _ties(config: Mapping[str, Any]) -> bool:
    """Whether the config says so; where it says nothing, its text part's word counts."""
    text = config.get("text_config")
    inner = text.get("tie_word_embeddings") if isinstance(text, dict) else None
    said = config.get("tie_word_embeddings")
    return bool(inner if said is None else said)


def _same(model: ModelFolder, one: str, other: str) -> bool:
    if model.shape(one) != model.shape(other) or model.dtype(one) != model.dtype(other):
        return False
    return all(
        torch.equal(piece.base, model.part(other, piece.start, piece.start + len(piece.base)))
        for piece in FilePieces(one, model, [])
    )
