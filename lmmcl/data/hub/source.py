"""Rows from datasets of the Hugging Face hub, or from local copies of them."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from typing_extensions import override

from lmmcl.data.bad_row import RowError
from lmmcl.data.columns import Columns
from lmmcl.data.files.records import Record
from lmmcl.data.row import Row
from lmmcl.data.row_view import RowView
from lmmcl.data.task import PARTS, Part
from lmmcl.errors import UserError

if TYPE_CHECKING:
    from lmmcl.data.files.table import TableRows

Make = Callable[[Record, int, Part], Row]
_UNREADABLE = (KeyError, AttributeError, TypeError, ValueError, IndexError)
"""What a record that lacks a column or a value, or has one of another type, makes a function raise."""


@dataclass(frozen=True)
class HubTable:
    """One split of a dataset on the hub, or of its local copy.

    Args:
        dataset: its id, ``owner/name``.
        split: the split, as the dataset calls it.
        config: the configuration (hub pages call it subset); None: the default one.
        revision: branch, tag or commit; None: the newest. Local copies are taken as they are.
    """

    dataset: str
    split: str
    config: str | None = None
    revision: str | None = None

    def load(self, root: Path | None = None) -> "TableRows":
        """The records, memory-mapped; pictures come as functions that open them.

        Args:
            root: folder of local copies, each in ``<root>/<owner>/<name>`` with the files as on the hub; None: the hub.

        Raises:
            UserError: no such dataset, copy, configuration or split, or the hub cannot be reached.
        """
        from lmmcl.data.hub.load import (
            load_split,
        )  # imports datasets: a second that only hub data should cost

        return load_split(self.dataset, self.split, self.config, self.revision, root)

    @override
    def __str__(self) -> str:
        config = f" ({self.config})" if self.config else ""
        return f"{self.dataset}{config}, split {self.split}"


@dataclass(frozen=True)
class _MakeRow:
    """Makes the row at a position of a table.

    Raises:
        RowError: its record makes none.
    """

    records: "TableRows"
    make: Make
    part: Part
    table: HubTable

    def __call__(self, place: int) -> Row:
        record = self.records[place]
        try:
            return self.make(record, place, self.part)
        except RowError:
            raise
        except UserError as error:
            raise RowError(f"{self.table}, row {place}", str(error)) from error
        except _UNREADABLE as error:
            raise _no_row(self.table, place, record, error) from error


class HubSource:
    """Rows from hub datasets, one table per part; nothing is loaded before rows or a fingerprint are asked for.

    Where there is no dev table, dev is cut by a hash from train (from test where there is no train).

    Args:
        parts: the tables of ``train`` and/or ``test``, and of ``dev`` if it has one of its own.
        make: makes a row of a record, the record's position in its table (from 0; the usual id) and the part. A
            module-level function, so that rows can be sent to workers.
        keep: which records count, seen without their pictures; None: all.
        root: folder of local copies; None: the hub.
        dev_share: share of the cut table that becomes dev, between 0 and 1.
        group: a column without pictures whose value decides, instead of the position, which side of the cut a record
            falls on, so that for example the questions about one picture stay together.
        identity: what ``make`` and ``keep`` depend on besides the records, as plain values; part of the fingerprint.
        columns: names that a table must have when its rows are asked for; None: any.

    Raises:
        UserError: a part's name is unknown or there is none, or the share is out of its range.
    """

    def __init__(
        self,
        parts: Mapping[Part, HubTable],
        make: Make,
        *,
        keep: Callable[[Record], bool] | None = None,
        root: Path | None = None,
        dev_share: float = 0.1,
        group: str | None = None,
        identity: Any = None,
        columns: Columns | None = None,
    ) -> None:
        if not parts or not set(parts) <= set(PARTS) or set(parts) == {"dev"}:
            raise UserError(
                f"splits: must name a split for train or test, and may for dev, got {', '.join(parts) or 'none'}; "
                "write for example splits: {train: train, test: validation}."
            )
        if not 0 < dev_share < 1:
            raise UserError(f"split: dev's share must lie between 0 and 1, got {dev_share}; correct it.")
        self.parts = dict(parts)
        self.root = None if root is None else Path(root)
        self._make, self._keep, self._columns = make, keep, columns
        self._dev_share, self._group, self._identity = dev_share, group, identity
        self._tables: dict[HubTable, TableRows] = {}
        self._places: dict[Part, list[int]] = {}

    def at(self, root: str | Path | None) -> Self:
        """The same source with its data under another root (None: the hub)."""
        return self._changed(root=None if root is None else Path(root))

    def undivided(self) -> Self:
        """The same source, but that no dev part is cut from what is measured: the test split as it was published."""
        return self._changed(_dev_share=0.0) if self._donor() == "test" else self

    def _changed(self, **attributes: Any) -> Self:
        other = copy(self)
        vars(other).update(attributes, _tables={}, _places={})
        return other

    def table(self, part: Part) -> "TableRows":
        """The records that a part's rows are made of, all of them.

        Raises:
            UserError: there is no such part, or its table cannot be loaded.
        """
        place = self._table_of(part)
        if place not in self._tables:
            self._tables[place] = place.load(self.root)
        return self._tables[place]

    def split(self, name: Part) -> Sequence[Row]:
        """The rows of a part, in the order of its table.

        Raises:
            UserError: there is no such part, its table cannot be loaded or lacks a column, two rows have one id, or no
                record is left.
        """
        records = self.table(name)
        if name not in self._places:
            if self._columns is not None:
                self._columns.check(records, str(self._table_of(name)))
            self._places[name] = self._places_of(name, records)
            if self._columns is not None:
                self._columns.check_ids(records, self._places[name], str(self._table_of(name)))
        if not self._places[name]:
            raise UserError(
                f"{self._table_of(name)}: no row is left for {name} of {len(records)}; correct what is kept of them"
                f"{'' if self._dev_share else ', or have a part cut for it by scoring: robust'}."
            )
        return RowView(self._places[name], _MakeRow(records, self._make, name, self._table_of(name)))

    def fingerprint(self) -> str:
        """A SHA-256 of the tables' names and values, and of how they are split; the same for hub and copies."""
        tables = {part: [asdict(table), self.table(part).fingerprint] for part, table in self.parts.items()}
        cut = [self._dev_share, self._group, self._identity]
        if self._keep is not None:
            cut += [self._places_of(part, self.table(part)) for part in self.parts]
        return hashlib.sha256(json.dumps([tables, cut], sort_keys=True, default=str).encode()).hexdigest()

    def _donor(self) -> Part:
        return "train" if "train" in self.parts else "test"

    def _table_of(self, part: Part) -> HubTable:
        if part == "dev" and "dev" not in self.parts:
            return self.parts[self._donor()]
        if part not in self.parts:
            named = ", ".join(f"{name} ({table})" for name, table in self.parts.items())
            raise UserError(
                f"splits: there is no {part}, only {named}; name a split for it, or give rows of your "
                f"own, {part}: rows.jsonl."
            )
        return self.parts[part]

    def _places_of(self, part: Part, records: "TableRows") -> list[int]:
        places: Sequence[int] = range(len(records))
        if self._keep is not None:
            columns = records.columns(records.plain_names)
            places = [
                place
                for place in places
                if self._keeps({name: values[place] for name, values in columns.items()}, part, place)
            ]
        if "dev" in self.parts or part not in ("dev", self._donor()):
            return list(places)
        keys = self._keys(records)
        return [place for place in places if (_share(keys[place]) < self._dev_share) == (part == "dev")]

    def _keeps(self, record: Record, part: Part, place: int) -> bool:
        try:
            return self._keep is None or self._keep(record)
        except _UNREADABLE as error:
            raise _no_row(self._table_of(part), place, record, error) from error

    def _keys(self, records: "TableRows") -> Sequence[Any]:
        if self._group is None:
            return range(len(records))
        if self._group not in records.plain_names:
            raise UserError(
                f"{self.parts[self._donor()]}: there is no column {self._group!r} to group rows by, only "
                f"{', '.join(records.plain_names)}."
            )
        return records.columns([self._group])[self._group]


def _no_row(table: HubTable, place: int, record: Record, error: Exception) -> RowError:
    return RowError(
        f"{table}, row {place}",
        f"a record must have the columns and values that its task reads, got {type(error).__name__}: {error} (its "
        f"columns are {', '.join(record)}); correct the copy, or what reads it.",
    )


def _share(key: Any) -> float:
    """A row's place between 0 and 1, by the hash of its number or group."""
    return int.from_bytes(hashlib.sha256(str(key).encode()).digest()[:6]) / 2**48
