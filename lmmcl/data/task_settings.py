"""What holds for all tasks of a run: where hub data lie, what happens to bad rows, how answers are scored."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

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
        image_roots: folders that rows of files may name pictures in, beside that of their file or ``image_folder``.

    Raises:
        UserError: there is no such folder, or a value is unknown.
    """

    root: str | Path | None = None
    on_bad_row: OnBadRow = "error"
    scoring: Scoring = "robust"
    image_roots: Sequence[str | Path] = ()

    def __post_init__(self) -> None:
        if self.root is not None and not Path(self.root).expanduser().is_dir():
            raise UserError(f"data.root must be a folder, there is none at {self.root}; correct it.")
        roots: Any = self.image_roots  # from YAML it may be anything
        if isinstance(roots, str | Path) or not all(isinstance(one, str | Path) for one in roots):
            raise UserError(
                f"data.image_roots must be a list of folders, got {roots!r}; write [/mnt/pictures]."
            )
        missing = [one for one in roots if not Path(one).expanduser().is_dir()]
        if missing:
            raise UserError(f"data.image_roots must be folders, there is none at {missing[0]}; correct it.")
        if self.on_bad_row not in get_args(OnBadRow):
            raise UserError(f"data.on_bad_row must be 'error' or 'drop', got {self.on_bad_row!r}.")
        if self.scoring not in get_args(Scoring):
            raise UserError(f"data.scoring must be 'robust' or 'lmms-eval', got {self.scoring!r}.")
