"""Imports lmms-eval, which lmmcl can do without, and undoes what its import changes for everybody else."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from PIL import ImageFile
from torch.distributed import distributed_c10d

from lmmcl.errors import UserError


@contextmanager
def globals_kept() -> Iterator[None]:
    """Puts back what importing lmms-eval sets for the whole process.

    It lets Pillow read truncated pictures (a broken training row would no longer be an error) and raises the timeout
    of process groups to a day (a hang would take as long to be seen).
    """
    truncated, timeout = ImageFile.LOAD_TRUNCATED_IMAGES, distributed_c10d.default_pg_timeout
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = truncated
        distributed_c10d.default_pg_timeout = timeout


def lmms_harness() -> ModuleType:
    """The module `lmmcl.evaluation.lmms_harness`, the only one that imports lmms-eval.

    Raises:
        UserError: lmms-eval, or something it needs, is not installed.
    """
    way_out = "install it with pip install 'lmmcl[lmms-eval]', or remove LmmsEval from trainer.callbacks."
    if importlib.util.find_spec("lmms_eval") is None:
        raise UserError(f"trainer.callbacks: LmmsEval needs lmms-eval, which is not installed; {way_out}")
    try:
        with globals_kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("lmmcl.evaluation.lmms_harness")
    except ImportError as error:
        raise UserError(
            f"trainer.callbacks: LmmsEval cannot import lmms-eval ({error}); {way_out}"
        ) from error
