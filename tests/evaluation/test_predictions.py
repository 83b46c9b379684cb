"""Predictions are found again by what they depend on, whole or not at all."""

import json
from pathlib import Path

import pytest

from lmmcl.evaluation.predictions import PredictionStore, result_key
from lmmcl.evaluation.result import Example, TaskResult

RESULT = TaskResult(
    "clock",
    (
        Example("a", "03:05", "03:05", 1.0, True, {"hour": 1.0, "minute": 1.0}),
        Example("b", "zwölf\u2028", ["12:00", 3], 0.0, False, {"hour": 0.0, "minute": 0.0}, critical=True),
    ),
)


@pytest.fixture
def store(tmp_path: Path) -> PredictionStore:
    store = PredictionStore(tmp_path / "predictions")
    store.write("00-base", "key", RESULT)
    return store


def test_what_was_written_is_found(store: PredictionStore) -> None:
    assert store.find("00-base", "clock", "key") == RESULT
    assert store.read("00-base", "clock") == RESULT


def test_another_key_or_task_is_not_found(store: PredictionStore) -> None:
    assert store.find("00-base", "clock", "other") is None
    assert store.find("00-base", "count", "key") is None


def test_a_stage_that_changed_nothing_gets_a_copy(store: PredictionStore) -> None:
    assert store.find("01-species", "clock", "key") == RESULT
    first, second = (store.folder / stage for stage in ("00-base", "01-species"))
    for name in ("clock.jsonl", "index.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_the_same_results_give_the_same_bytes(store: PredictionStore, tmp_path: Path) -> None:
    again = PredictionStore(tmp_path / "again")
    again.write("00-base", "key", RESULT)
    for name in ("clock.jsonl", "index.json"):
        assert (store.folder / "00-base" / name).read_bytes() == (
            again.folder / "00-base" / name
        ).read_bytes()
    assert sorted(path.name for path in (again.folder / "00-base").iterdir()) == ["clock.jsonl", "index.json"]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-3], lambda data: b"", lambda data: data.replace(b"05", b"06")]
)
def test_a_damaged_file_is_named_and_made_again(store: PredictionStore, damage: object) -> None:
    path = store.folder / "00-base" / "clock.jsonl"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))  # type: ignore[operator]  # a parameter of several shapes
    with pytest.warns(UserWarning, match=str(path)):
        assert store.find("00-base", "clock", "key") is None
    store.write("00-base", "key", RESULT)
    assert path.read_bytes() == whole


def test_a_missing_file_is_named_and_another_stages_copy_is_used(store: PredictionStore) -> None:
    store.find("01-species", "clock", "key")
    (store.folder / "01-species" / "clock.jsonl").unlink()
    with pytest.warns(UserWarning, match="01-species"):
        assert store.find("01-species", "clock", "key") == RESULT
    assert (store.folder / "01-species" / "clock.jsonl").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"clock": 3}', ""])
def test_a_damaged_index_is_named_and_the_stage_measured_again(store: PredictionStore, text: str) -> None:
    (store.folder / "00-base" / "index.json").write_text(text)
    with pytest.warns(UserWarning, match=r"index\.json is damaged"):
        assert store.find("00-base", "clock", "key") is None


def test_a_file_that_a_kill_left_out_of_the_index_is_not_used(store: PredictionStore) -> None:
    (store.folder / "00-base" / "clock.jsonl").write_bytes(
        TaskResult("clock", RESULT.examples[:1]).to_jsonl()
    )
    assert store.find("00-base", "clock", "newer key") is None


def test_reading_a_damaged_result_says_so(store: PredictionStore) -> None:
    (store.folder / "00-base" / "clock.jsonl").write_bytes(b"")
    with pytest.warns(UserWarning, match="truncated"), pytest.raises(FileNotFoundError, match="clock"):
        store.read("00-base", "clock")


def test_other_tasks_of_the_stage_stay(store: PredictionStore) -> None:
    store.write("00-base", "k2", TaskResult("count", RESULT.examples[:1]))
    assert sorted(json.loads((store.folder / "00-base" / "index.json").read_text())) == ["clock", "count"]
    assert store.find("00-base", "clock", "key") == RESULT


def test_the_key_depends_on_weights_task_and_settings() -> None:
    keys = {
        result_key("w", "t", {"a": 1, "b": 2}),
        result_key("v", "t", {"a": 1, "b": 2}),
        result_key("w", "s", {"a": 1, "b": 2}),
        result_key("w", "t", {"a": 1, "b": 3}),
    }
    assert len(keys) == 4
    assert result_key("w", "t", {"b": 2, "a": 1}) in keys
