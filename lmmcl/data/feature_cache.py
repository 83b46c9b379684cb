"""Where the features of pictures are kept: what ``data.cache_features`` says."""

from __future__ import annotations

import math
from pathlib import Path

from lmmcl.data.files.cache_folder import cache_folder
from lmmcl.errors import UserError


def check_feature_cache(where: bool | str, most: float) -> Path | None:
    """The folder of features; None where none are kept.

    Args:
        where: ``data.cache_features``.
        most: ``data.cache_features_gb``.

    Raises:
        UserError: there is no such folder and can be none, or the limit keeps nothing.
    """
    if not 0 < most < math.inf:
        raise UserError(
            f"data.cache_features_gb must be a number above 0, got {most}; to keep none set data.cache_features: false."
        )
    if isinstance(where, bool):
        return cache_folder("features") if where else None
    path = Path(where).expanduser()
    if not where.strip() or (path.exists() and not path.is_dir()):
        raise UserError(f"data.cache_features must be a folder, true or false, got {where!r}.")
    return path
