"""Where the pictures lie that a data set names by address."""

from pathlib import Path
from typing import Protocol, runtime_checkable

from huggingface_hub.constants import HF_HOME

from lmmcl.data.pictures.fetch import Wanted


@runtime_checkable
class Fetchable(Protocol):
    """A source whose pictures are fetched before they are used.

    Attributes:
        folder: where they go.
    """

    folder: Path

    def at(self, root: str | Path | None) -> "Fetchable":
        """The same source with its data under another root (None: the hub)."""
        ...

    def wanted(self) -> list[Wanted]:
        """The pictures, by address and hash."""
        ...


def pictures_folder(dataset: str, root: Path | None) -> Path:
    """The folder of a data set's fetched pictures.

    Args:
        dataset: its id on the hub, ``owner/name``.
        root: folder of local copies; None: the pictures go to the hub's cache folder (``HF_HOME``).
    """
    return (Path(HF_HOME) / "lmmcl" if root is None else root) / "pictures" / dataset
