"""A source without its bad rows: what ``on_bad_row: drop`` makes of a source."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import track

from lmmcl.data.bad_row import BadRow, RowError
from lmmcl.data.pictures.picture_check import PictureCheck
from lmmcl.data.row import Row
from lmmcl.data.row_view import RowView
from lmmcl.data.task import Part, Source
from lmmcl.errors import UserError

BLOCK = 256
"""Rows whose pictures are decoded together; an interrupted check loses the verdicts of so many at most."""


class DropBadRows:
    """The rows of a source that can be made and whose pictures can be decoded.

    A part is looked through when it is first asked for, which is before training: the number of rows, and with it steps
    and epochs, is known at the start and never changes. Every process comes to the same rows by itself, since what is
    looked at is the same; `PictureCheck` keeps the verdicts, so that the work is done once on a machine.

    Args:
        source: has all rows.
        name: of the task.
    """

    def __init__(self, source: Source, name: str) -> None:
        self.source = source
        self._name = name
        self._kept: dict[Part, Sequence[Row]] = {}
        self._found: dict[Part, list[BadRow]] = {}
        self._places: dict[Part, list[int]] = {}

    @property
    def stem(self) -> str | None:
        """The source's name of its files, if it has any."""
        return getattr(self.source, "stem", None)

    @property
    def bad_rows(self) -> list[BadRow]:
        """What was left out of the parts that were asked for."""
        before: list[BadRow] = getattr(self.source, "bad_rows", [])
        return [*before, *(row for rows in self._found.values() for row in rows)]

    def split(self, name: Part) -> Sequence[Row]:
        """The good rows of a part, in the order of the source.

        Raises:
            UserError: there is no such part, or no row of it is good.
        """
        if name not in self._kept:
            rows = self.source.split(name)
            bad = dict(self._bad(rows, name))
            if len(bad) == len(rows):
                first = next(iter(bad.values()))
                raise UserError(
                    f"data.on_bad_row: drop left no row of {self._name} for {name}; the first is {first.file}, row "
                    f"{first.row}: {first.reason}"
                )
            self._found[name], self._places[name] = list(bad.values()), list(bad)
            good = [place for place in range(len(rows)) if place not in bad]
            self._kept[name] = RowView(good, rows.__getitem__) if bad else rows
        return self._kept[name]

    def fingerprint(self) -> str:
        """The source's; which rows are left out for their pictures is said by `left_out`."""
        return f"{self.source.fingerprint()} without bad rows"

    def left_out(self, name: Part) -> list[int]:
        """Places in the source's part of the rows that were left out; a part is looked through for it.

        They follow from the pictures' contents, of which a fingerprint has the sizes alone.

        Raises:
            UserError: see `split`.
        """
        self.split(name)
        return self._places[name]

    def _bad(self, rows: Sequence[Row], part: Part) -> Iterator[tuple[int, BadRow]]:
        starts = range(0, len(rows), BLOCK)
        console = Console(stderr=True)
        title = f"looking at {self._name}"
        with PictureCheck(self._name) as check:
            for start in track(
                starts, title, console=console, transient=True, disable=not console.is_terminal
            ):
                block: list[tuple[int, Row]] = []
                for place in range(start, min(start + BLOCK, len(rows))):
                    try:
                        block.append((place, rows[place]))
                    except UserError as error:
                        yield place, self._record(error, part, place)
                reasons = iter(check.reasons([picture for _, row in block for picture in row.images]))
                for place, row in block:
                    wrong = [(picture, reason) for picture in row.images if (reason := next(reasons))]
                    if wrong:
                        where = getattr(wrong[0][0], "where", "")
                        yield place, self._record(RowError(where, wrong[0][1]), part, place)

    def _record(self, error: UserError, part: Part, place: int) -> BadRow:
        if isinstance(error, RowError) and ", row " in error.where:
            return BadRow.of(error)
        return BadRow(f"{self._name}, {part}", place, str(error))
