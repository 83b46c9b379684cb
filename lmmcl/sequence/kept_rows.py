"""Lets a task of several epochs keep the features of its rows' pictures."""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from torch.distributed.tensor import DTensor

from lmmcl.data.batches.mixing import MixedRows
from lmmcl.data.row import Row
from lmmcl.evaluation.feature_folder import FeatureFolder
from lmmcl.evaluation.kept_outputs import UnkeepableError
from lmmcl.evaluation.path_state import kernels, path_state, versions
from lmmcl.model import ContinualLMM
from lmmcl.outputs.row_features import RowFeatures
from lmmcl.sequence.row_proof import prove_rows
from lmmcl.structure.picture_path import PicturePath

_OFTEN = 2
"""How often a row is met, on average, for its features to be kept."""
_LOOKED = 256
"""Rows of a task among which one without a picture is looked for; to look at all would read a large file whole."""


def keep_rows(module: ContinualLMM, rows: Sequence[Row], probe: Sequence[Row]) -> str | None:
    """Decides whether the pictures of a task pass the frozen tower once instead of once an epoch; collective.

    They do where ``data.cache_features`` is on, rows are met twice or more on average, and nothing on the way from
    pixels to the language model trains, is adapted or is random. The features of each row are then computed from its
    own pixels alone: the result is the same to the byte whatever is in the folder, and to rounding that of a run
    without, which is proven first (`prove_rows`); where it is not so, a warning names the model.

    Args:
        module: whose task has begun.
        rows: of the task.
        probe: a few of them, one with a picture if any has one.

    Returns:
        why the task keeps none, where it was asked to and would keep them with another recipe; else None.
    """
    data, task = module.data, module.task
    assert task is not None
    data.layout = replace(data.layout, apart=False)
    module.keep_rows(None)
    pictured = [row for row in probe if row.images]
    if data.cache_features is None or not pictured or _visits(rows, task.epochs) < _OFTEN:
        return None
    path, changing = PicturePath(module.model, module.anatomy), module.may_change()
    unfit = _unfit(path, changing)
    if unfit is not None:
        return f"{task.name}: data.cache_features keeps no features of its rows: {unfit}."
    try:
        points, joint, words = prove_rows(module, path, pictured, _without_picture(rows))
    except UnkeepableError as error:
        name = type(module.model).__name__
        warnings.warn(
            f"data.cache_features: {name} keeps no features of training rows: {error}.", stacklevel=2
        )
        return None
    if not words.isdisjoint(changing):
        return f"{task.name}: data.cache_features keeps no features of its rows: it trains words that are in them."
    about = [str(module.model.config), kernels(module.model), str(module.trainer.precision), versions()]
    state = json.dumps([about, path_state(path, words, module.device)])
    folder = FeatureFolder(data.cache_features, int(data.cache_features_gb * 1e9), of_rows=True)
    sharded = any(isinstance(parameter, DTensor) for parameter in path.parameters().values())
    module.keep_rows(RowFeatures(path, points, joint, state, folder, words, together=sharded))
    data.layout = replace(data.layout, apart=True)
    return None


def _visits(rows: Sequence[Row], epochs: int) -> float:
    """How often a row of a task is met on average; a mixture may meet rows of one stream again and again."""
    if not isinstance(rows, MixedRows):
        return epochs
    distinct = len(np.unique(np.stack([rows.streams, rows.places]), axis=1).T)
    return epochs * len(rows) / distinct


def _without_picture(rows: Sequence[Row]) -> Row | None:
    """A row without a picture, of some that lie evenly among all."""
    step = -(-len(rows) // _LOOKED)
    return next((rows[place] for place in range(0, len(rows), step) if not rows[place].images), None)


def _unfit(path: PicturePath, changing: Collection[str]) -> str | None:
    if path.adapted:
        return "there are adapters in vision tower or projector"
    if not path.parameters().keys().isdisjoint(changing):
        return "it trains vision tower or projector"
    return "there is dropout or a batch norm in them" if path.trains_otherwise() else None
