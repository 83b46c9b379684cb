"""The scorer that a YAML value names."""

from importlib import import_module
from typing import Any, cast

import lmmcl.scorers
from lmmcl.data.nearest import nearest
from lmmcl.errors import UserError
from lmmcl.scorers.score import Scorer


def find_scorer(name: Any, key: str) -> Scorer:
    """Finds a scorer.

    Args:
        name: a function of `lmmcl.scorers`, a dotted path to one's own, or (from Python) the function itself.
        key: YAML key named in errors.

    Raises:
        UserError: nothing callable has this name, or its module breaks when it is imported.
    """
    if callable(name):
        return cast(Scorer, name)
    known = [entry for entry in lmmcl.scorers.__all__ if entry[0].islower()]
    if name in known:
        return cast(Scorer, getattr(lmmcl.scorers, name))
    module, _, function = str(name).rpartition(".")
    try:
        found = getattr(import_module(module), function) if module else None
    except Exception as error:  # a module may raise anything
        raise UserError(
            f"{key}: {name} cannot be imported ({type(error).__name__}: {error}); give module.function of a module "
            "that Python can import."
        ) from error
    if not callable(found):
        raise UserError(
            f"{key}: there is no scorer {name!r}; {nearest(str(name), known)}Known are {', '.join(known)}; "
            "your own is named module.function."
        )
    return cast(Scorer, found)
