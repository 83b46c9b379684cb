"""Rows that are made when they are asked for."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import overload

from typing_extensions import override

from lmmcl.data.row import Row


class MadeRows(Sequence[Row]):
    """A sequence of rows none of which is held; a subclass says how many there are and makes one."""

    @abstractmethod
    def make(self, index: int) -> Row:
        """The row at a position, from 0."""

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    @override
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self.make(place) for place in range(*index.indices(len(self)))]
        return self.make(range(len(self))[index])


class RowView(MadeRows):
    """Some of the rows of a source, in order. It keeps their positions only, and is cheap to send to a worker.

    Args:
        places: positions of the rows in the source.
        make: makes the row at a position; for other processes it must be picklable.
    """

    def __init__(self, places: Sequence[int], make: Callable[[int], Row]) -> None:
        self._places, self._make = places, make

    @override
    def __len__(self) -> int:
        return len(self._places)

    @override
    def make(self, index: int) -> Row:
        return self._make(int(self._places[index]))


class Later:
    """Makes the rows of a sequence that is found when the first of them is looked at.

    Args:
        find: finds the sequence; for other processes it must be picklable.
    """

    def __init__(self, find: Callable[[], Sequence[Row]]) -> None:
        self._find = find
        self._rows: Sequence[Row] | None = None

    def __call__(self, place: int) -> Row:
        """The row at a position."""
        if self._rows is None:
            self._rows = self._find()
        return self._rows[place]
