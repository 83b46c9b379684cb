"""Where a record holds what a row needs: the mapping of columns, and prompts written with them."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import Any, Protocol

from lmmcl.data.nearest import nearest
from lmmcl.errors import UserError

COLUMNS = ("id", "question", "answer", "image", "messages", "gold", "options", "category")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


def pick(record: Mapping[str, Any], name: str) -> Any:
    """The value of a column; None where there is none.

    Args:
        record: a record.
        name: a column, or a way inside one: ``answers[0]``, ``meta.answer``.
    """
    if name in record:
        return record[name]
    value: Any = record
    for key, index in _STEP.findall(name):
        if key:
            value = value.get(key) if isinstance(value, Mapping) else None
        else:
            inside = isinstance(value, Sequence) and not isinstance(value, str) and int(index) < len(value)
            value = value[int(index)] if inside else None
    return value


def _has(record: Mapping[str, Any], name: str) -> bool:
    """Whether there is such a column, or a way inside one, even without a value."""
    steps = [match.span() for match in _STEP.finditer(name)]
    if name in record or len(steps) < 2:
        return name in record
    inside = pick(record, name[: steps[-1][0]])
    key, index = _STEP.findall(name)[-1]
    if key:
        return isinstance(inside, Mapping) and key in inside
    return isinstance(inside, Sequence) and not isinstance(inside, str) and int(index) < len(inside)


def base(name: str) -> str:
    """The column that a name leads into: ``answers`` of ``answers[0]``."""
    return re.split(r"[.\[]", name, maxsplit=1)[0]


class Table(Protocol):
    """What `Columns` needs of a table."""

    @property
    def plain_names(self) -> Sequence[str]:
        """Columns without pictures."""
        ...

    def columns(self, names: Sequence[str]) -> Mapping[str, Sequence[Any]]:
        """Whole columns of these."""
        ...


@dataclass(frozen=True)
class Columns:
    """The data's names for what a row needs.

    Args:
        names: the data's own name of any of `COLUMNS`; an ``id`` of None takes the row's number.

    Raises:
        UserError: a key is none of these.
    """

    names: Mapping[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given: Any = self.names  # from YAML it may be anything
        if not isinstance(given, Mapping):
            raise UserError(f"columns: must be a mapping such as {{question: q, answer: a}}, got {given!r}.")
        for name, column in given.items():
            if name not in COLUMNS:
                near = nearest(str(name), COLUMNS)
                raise UserError(
                    f"columns: keys must be among {', '.join(COLUMNS)}, got {name!r}; {near}correct it."
                )
            if not isinstance(column, str) and not (column is None and name == "id"):
                raise UserError(f"columns: {name} must name a column, got {column!r}; correct it.")

    def name(self, key: str) -> str:
        """The data's name; empty where the row has none."""
        return self.names.get(key, key) or ""

    def find(self, record: Mapping[str, Any], key: str) -> Any:
        """The record's value of one of `COLUMNS`; None where it has none."""
        name = self.name(key)
        return pick(record, name) if name else None

    def check(self, records: Iterable[Mapping[str, Any]], where: str) -> None:
        """Checks that at least one record has each column that is named; reads only as many as it takes.

        Args:
            records: all of them; none at all pass.
            where: what holds them, for the error.

        Raises:
            UserError: no record has a column.
        """
        missing = {key: name for key, name in self.names.items() if name}
        there: dict[str, None] = {}
        for record in records if missing else ():
            there |= dict.fromkeys(map(str, record))
            missing = {key: name for key, name in missing.items() if not _has(record, name)}
            if not missing:
                return
        if missing and there:
            key, name = next(iter(missing.items()))
            raise UserError(
                f"columns: {key} must name a column of {where}, got {name!r}, which no row has, only "
                f"{', '.join(there)}; {nearest(name, there)}correct it."
            )

    def check_ids(self, table: "Table", places: Iterable[int], where: str) -> None:
        """Checks that the column of ids, where there is one, tells the rows of a table apart.

        Args:
            table: of all records.
            places: of the rows in it.
            where: what it is, for the error.

        Raises:
            UserError: two rows have one id: their answers would be taken for each other's.
        """
        name = self.name("id")
        column = name if name in table.plain_names else base(name)
        if column not in table.plain_names:
            return
        values = table.columns([column])[column]
        seen: dict[str, int] = {}
        for place in places:
            found = pick({column: values[place]}, name)
            if found is not None and seen.setdefault(str(found), place) != place:
                raise UserError(
                    f"columns: id must name every row of {where} once, {name!r} has {str(found)[:60]!r} in rows "
                    f"{seen[str(found)]} and {place}; take row numbers, columns: {{id: null}}, or another column."
                )

    def used(self, record: Mapping[str, Any]) -> set[str]:
        """The record's columns that need not be handed on as they are."""
        return {base(name) if name not in record else name for name in map(self.name, COLUMNS) if name}


class Prompt:
    """A user's turn written with the columns of a record.

    Args:
        template: ``{column}`` stands for its value, ``{answers[0]}`` and ``{meta.hint}`` for one inside it, ``{{`` for
            a brace. A list is written as lettered lines (``A. red``). ``<image>`` is a picture's place.

    Raises:
        UserError: a brace is open, or holds anything but a column.
    """

    def __init__(self, template: str) -> None:
        try:
            pieces = list(Formatter().parse(template))
        except (ValueError, AttributeError, TypeError) as error:
            raise UserError(
                f"prompt: must be a text with columns in braces, got {template!r} ({error}); write {{{{ for a brace."
            ) from error
        for _, name, form, conversion in pieces:
            if name is not None and (not name or form or conversion):
                raise UserError(
                    f"prompt: braces must hold a column's name, got {template!r}; write {{{{ for a brace."
                )
        self.template = template
        self._pieces = [(text, name) for text, name, _, _ in pieces]

    def fill(self, record: Mapping[str, Any]) -> str:
        """The prompt of a record.

        Raises:
            KeyError: the record has no such column; its argument is the name.
        """
        return "".join(
            text + ("" if name is None else _written(pick(record, name), name)) for text, name in self._pieces
        )


def _is_gap(value: Any) -> bool:
    """Whether a table has nothing there: None, or nan among numbers."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _written(value: Any, name: str) -> str:
    if _is_gap(value):
        raise KeyError(name)
    if isinstance(value, list | tuple):
        lettered = ((chr(ord("A") + place), option) for place, option in enumerate(value))
        return "\n".join(f"{letter}. {option}" for letter, option in lettered if not _is_gap(option))
    return str(value)
