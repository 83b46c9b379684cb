"""A built-in task that learns from the user's rows and is measured on its own."""

from collections.abc import Sequence
from pathlib import Path

from lmmcl.data.bad_row import BadRow
from lmmcl.data.row import Row
from lmmcl.data.sources import FileSource
from lmmcl.data.task import Part, RootedSource, Source


class OwnTrain:
    """The training rows of files, and dev and test of another source.

    Args:
        train: has the training rows.
        base: has the others.
    """

    def __init__(self, train: FileSource, base: Source) -> None:
        self.train, self.base = train, base

    @property
    def bad_rows(self) -> list[BadRow]:
        """Rows of the files that were left out."""
        return self.train.bad_rows

    def at(self, root: str | Path | None) -> "OwnTrain":
        """The same with the base's data under another root."""
        return OwnTrain(self.train, self.base.at(root) if isinstance(self.base, RootedSource) else self.base)

    def undivided(self) -> "OwnTrain":
        """The same with the base's test split as it was published."""
        return OwnTrain(
            self.train, self.base.undivided() if isinstance(self.base, RootedSource) else self.base
        )

    def split(self, name: Part) -> Sequence[Row]:
        """The rows of a part.

        Raises:
            UserError: there is no such part, or it is empty.
        """
        return self.train.split(name) if name == "train" else self.base.split(name)

    def fingerprint(self) -> str:
        """Changes when the rows of either do."""
        return f"{self.train.fingerprint()} {self.base.fingerprint()}"
