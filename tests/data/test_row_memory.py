"""The rows of past tasks that are kept: how many, which, and that they come back as they were."""

import json
from collections import Counter
from typing import Any

import pytest

from lmmcl import TaskSequenceDataModule
from lmmcl.data.row_memory import GENERAL, RowMemory
from lmmcl.errors import UserError
from tests.toy import toy_task


def memory(buffer: float, strategy: Any = "reservoir", **options: Any) -> RowMemory:
    return RowMemory(buffer, strategy, options.get("begin_with"), options.get("begin_samples"), "Replay")


def shares(found: RowMemory) -> dict[str, int]:
    return dict(Counter(task for task, _ in found.kept))


@pytest.mark.parametrize("strategy", ["reservoir", "balanced"])
def test_a_share_of_the_past_is_kept(strategy: str) -> None:
    found = memory(0.1, strategy)
    for name in "abc":
        found.add(name, 100, 0)
    assert shares(found) == {"a": 10, "b": 10, "c": 10}


def test_a_reservoir_keeps_each_task_s_share_and_balance_divides_the_same_total() -> None:
    reservoir, balanced = memory(0.1), memory(0.1, "balanced")
    for name, count in (("a", 400), ("b", 100), ("c", 100)):
        reservoir.add(name, count, 0)
        balanced.add(name, count, 0)
    assert shares(reservoir) == {"a": 40, "b": 10, "c": 10}
    assert shares(balanced) == {"a": 20, "b": 20, "c": 20}


def test_a_balanced_share_takes_more_of_new_tasks_where_old_ones_have_no_more() -> None:
    found = memory(0.1, "balanced")
    found.add("a", 20, 0)
    found.add("b", 180, 0)
    assert shares(found) == {"a": 2, "b": 18}


@pytest.mark.parametrize("strategy", ["reservoir", "balanced"])
def test_a_number_of_rows_is_never_exceeded_and_what_left_does_not_come_back(strategy: str) -> None:
    found, before = memory(12, strategy), set[tuple[str, int]]()
    for index, name in enumerate("abcd"):
        found.add(name, 40, 0)
        kept = set(found.kept)
        assert len(found.kept) == len(kept) == 12
        assert {item for item in kept if item[0] != name} <= before
        assert strategy == "reservoir" or set(shares(found).values()) == {12 // (index + 1)}
        before = kept


def test_a_reservoir_over_tasks_keeps_every_row_with_the_same_probability() -> None:
    """Over 600 fixed keys; 8 of 32 rows: 150 times each, give or take 11, the same counts on every machine."""
    counts = Counter[tuple[str, int]]()
    for key in range(600):
        found = memory(8)
        for name, count in (("a", 4), ("b", 20), ("c", 8)):
            found.add(name, count, key)
        counts.update(found.kept)
    assert len(counts) == 32 and max(abs(count - 150) for count in counts.values()) < 45
    of_task = [sum(n for item, n in counts.items() if item[0] == name) / 4800 for name in "abc"]
    assert of_task == pytest.approx([4 / 32, 20 / 32, 8 / 32], abs=0.03)


def test_the_smallest_share_is_a_row_and_none_is_none() -> None:
    few, none = memory(0.01), memory(0)
    for found in (few, none):
        found.add("a", 5, 0)
    assert len(few.kept) == 1 and none.kept == []


def test_its_state_is_json_and_brings_everything_back() -> None:
    found, other = memory(6, "balanced"), memory(6, "balanced")
    found.add("b", 10, 0)
    found.add("a", 10, 0)
    other.load(json.loads(json.dumps(found.state(), sort_keys=True)))
    assert other.kept == found.kept
    for one in (found, other):
        one.add("c", 10, 0)
    assert other.kept == found.kept and shares(found) == {"b": 2, "a": 2, "c": 2}


def test_kept_rows_come_from_their_tasks_under_ids_of_their_own() -> None:
    data = TaskSequenceDataModule([toy_task("first", 0), toy_task("second", 1, max_train_samples=6)])
    found = memory(0.2)
    found.end_stage(data, 1, 0)
    found.end_stage(data, 2, 0)
    rows = found.rows(data)
    assert len(rows) == 4 + 1
    for (task, place), row in zip(found.kept, rows, strict=True):
        source = data.train_rows(0 if task == "first" else 1)[place]
        assert row.id == f"{task}/{source.id}" and row.messages == source.messages


def test_a_general_set_is_there_from_the_beginning_whole_where_the_buffer_is_a_share() -> None:
    data = TaskSequenceDataModule([toy_task("first", 0)])
    found = memory(0.1, begin_with="posters", begin_samples=5)
    assert found.find_general(data)[0][0] == "posters"
    found.end_stage(data, 0, 0)
    assert shares(found) == {GENERAL: 5}
    rows = found.rows(data)
    assert all(row.id.startswith("posters/general-train-") for row in rows) and len({r.id for r in rows}) == 5
    found.end_stage(data, 1, 0)
    assert shares(found) == {GENERAL: 5, "first": 2}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"buffer": -0.1}, "Replay.buffer"),
        ({"buffer": 1.5}, "Replay.buffer"),
        ({"buffer": float("nan")}, "Replay.buffer"),
        ({"buffer": 1, "strategy": "random"}, "Replay.strategy"),
        ({"buffer": 1, "begin_with": "general"}, "begin_samples"),
        ({"buffer": 1, "begin_with": "general", "begin_samples": 0}, "begin_samples"),
    ],
)
def test_a_value_out_of_range_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        memory(**options)
