"""Where a row's pictures may lie: whoever wrote a row chose its paths, and none of them leads out of its folder."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from lmmcl.errors import UserError


@dataclass(frozen=True)
class PictureRoots:
    """The folder in which relative paths of pictures start, and the folders that any path has to stay in.

    Links and ``..`` are followed before a path is judged. Pictures that lie elsewhere are read where the YAML says so:
    ``image_folder`` of the task, or ``data.image_roots`` for all tasks.

    Args:
        start: relative paths start here.
        roots: real paths of the folders, the first one that of ``start``; none: rows may name no file at all.
    """

    start: Path
    roots: tuple[str, ...]

    @classmethod
    def of(cls, start: Path, *more: str | Path) -> Self:
        """The roots of rows whose pictures lie in a folder, or in others that are allowed."""
        return cls(start, tuple(dict.fromkeys(root for one in (start, *more) for root in _real(one))))

    @classmethod
    def nowhere(cls) -> Self:
        """Of rows whose pictures stand in their table."""
        return cls(Path(), ())


def lies_in(real: str, roots: Sequence[str]) -> bool:
    """Whether a real path is one of some folders or below."""
    return any(real == root or real.startswith(root.rstrip(os.sep) + os.sep) for root in roots)


def refuse_links_out(found: Sequence[Path], folder: Path, more: Sequence[str | Path]) -> None:
    """Refuses what a folder holds in name only: a link inside it that leads elsewhere.

    Args:
        found: files or folders in it.
        folder: as the YAML names it; it may be a link itself.
        more: folders that are allowed beside it.

    Raises:
        UserError: one lies in none of them.
    """
    roots = PictureRoots.of(folder, *more).roots
    for one in found:
        real = os.path.realpath(one)
        if not lies_in(real, roots):
            raise UserError(
                f"path: what {folder} holds must lie in it, got the link {one.name} to {real}; name that file "
                f"itself, or allow its folder: data.image_roots: [{os.path.dirname(real)}]."
            )


def _real(folder: str | Path) -> list[str]:
    """A folder without links; of a snapshot in the hub's cache also the folder where its links lead."""
    real = os.path.realpath(os.path.expanduser(folder))
    repository, found, _ = real.partition(f"{os.sep}snapshots{os.sep}")
    blobs = os.path.join(repository, "blobs")
    return [real, blobs] if found and os.path.isdir(blobs) else [real]
