"""Rows that are made when they are asked for, and not before."""

import pickle
from functools import partial

import pytest

from lmmcl.data.row import Row
from lmmcl.data.row_view import Later, RowView
from tests.data.processors import simple

FOUND: list[str] = []


def find(name: str) -> list[Row]:
    FOUND.append(name)
    return [simple(f"{name}{place}") for place in range(5)]


def test_some_places_of_a_source_are_a_sequence_of_their_own() -> None:
    rows = RowView([3, 1, 4], find("a").__getitem__)
    assert [row.id for row in rows] == ["a3", "a1", "a4"]
    assert rows[-1].id == "a4"
    assert [row.id for row in rows[1:]] == ["a1", "a4"]
    with pytest.raises(IndexError):
        rows[3]


def test_rows_are_found_once_and_not_before_one_is_looked_at() -> None:
    FOUND.clear()
    rows = RowView(range(5), Later(partial(find, "b")))
    assert len(rows) == 5
    assert FOUND == []
    assert [row.id for row in rows[:2]] + [rows[4].id] == ["b0", "b1", "b4"]
    assert FOUND == ["b"]


def test_another_process_finds_them_itself() -> None:
    FOUND.clear()
    rows: RowView = pickle.loads(pickle.dumps(RowView([2], Later(partial(find, "c")))))
    assert FOUND == []
    assert rows[0].id == "c2"
