"""What holds for all tasks of a run: where hub data lie, what happens to bad rows, how answers are scored."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from lmmcl.data.bad_row import OnBadRow
from lmmcl.errors import UserError

Scoring = Literal["robust", "lmms-eval"]


@dataclass(frozen=True)
class TaskSettings:
    """What holds for all tasks of a run.

    Args:
        root: folder that holds local copies of hub data as ``<root>/<owner>/<name>``; None: the hub.
        on_bad_row: whether a row that breaks is an error, or dropped and counted.
        scoring: ``lmms-eval`` takes every task's scorer of that mode, and measures published test splits whole: no dev
            part is cut from them.

    Raises:
        UserError: there is no such folder, or a value is unknown.
    """

    root: str | Path | None = None
    on_bad_row: OnBadRow = "error"
    scoring: Scoring = "robust"

    def __post_init__(self) -> None:
        if self.root is not None and not Path(self.root).expanduser().is_dir():
            raise UserError(f"data.root must be a folder, there is none at {self.root}; correct it.")
        if self.on_bad_row not in get_args(OnBadRow):
            raise UserError(f"data.on_bad_row must be 'error' or 'drop', got {self.on_bad_row!r}.")
        if self.scoring not in get_args(Scoring):
            raise UserError(f"data.scoring must be 'robust' or 'lmms-eval', got {self.scoring!r}.")
