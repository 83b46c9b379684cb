"""Keeps Lightning's and transformers' chatter from the user; warnings that matter pass, on one line."""

import logging
import os
import sys
import warnings
from typing import TextIO

_CHATTER = (
    r".*have no logger configured.*",  # the engine keeps the log itself
    r".*Using `DistributedSampler` with the dataloaders.*",  # our evaluation counts every row once by itself
    r".*does not have many workers.*",  # num_workers is the user's choice
    r".*LeafSpec.*",  # a deprecation inside Lightning
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    r".*`max_epochs` was not set.*",  # the sequence sets it
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*`training_step` returned `None`.*",
    r".*lr_scheduler\.step\(\)` before `optimizer\.step\(\)`.*",  # a fresh optimizer at each task
)


def quiet() -> None:
    """Sets log levels and warning filters for a command; call it before torch is imported."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.stderr.isatty():  # a bar in a file is a line for every step
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    for pattern in _CHATTER:
        warnings.filterwarnings("ignore", message=pattern)
    warnings.showwarning = _show


def quiet_libraries() -> None:
    """Quiets what sets its own level when it is imported; call it once Lightning and transformers are."""
    from transformers.utils import logging as chatter

    chatter.disable_progress_bar()  # of the weights; downloads keep theirs
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if int(os.environ.get("LOCAL_RANK", "0")) == 0:
        print(f"lmmcl: warning: {' '.join(str(message).split())}", file=file or sys.stderr, flush=True)
