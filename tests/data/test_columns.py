"""Columns that a YAML names must be there."""

import json
from pathlib import Path
from typing import Any

import pytest

from lmmcl.data.columns import Columns, Prompt
from lmmcl.data.sources import FileSource
from lmmcl.errors import UserError


def write(path: Path, *more: dict[str, Any]) -> Path:
    rows = [{"question": f"{path.stem} {i}?", "answer": "A", "meta": {"kind": "x"}} for i in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *more]))
    return path


@pytest.mark.parametrize("key", ["image", "gold", "options", "category", "messages"])
def test_a_named_column_that_no_row_has_is_a_mistake(tmp_path: Path, key: str) -> None:
    path = write(tmp_path / "rows.jsonl")
    with pytest.raises(
        UserError, match=rf"columns: {key} must .*rows\.jsonl, got 'anwser', .* did you mean 'answer'"
    ):
        FileSource(path, columns={key: "anwser"}, on_bad_row="drop")


def test_a_column_of_one_row_of_one_part_is_enough(tmp_path: Path) -> None:
    test = write(tmp_path / "test.jsonl", {"question": "?", "answer": "A", "right": "B", "id": "last"})
    source = FileSource({"train": write(tmp_path / "train.jsonl"), "test": test}, columns={"gold": "right"})
    assert {row.gold for row in source.split("test")} == {"A", "B"}


def test_a_way_inside_a_column_must_lead_somewhere() -> None:
    records: list[dict[str, Any]] = [{"answers": []}, {"answers": ["a"], "meta": {"kind": None}, "a.b": 1}]
    Columns({"answer": "answers[0]", "category": "meta.kind", "gold": "a.b", "id": None}).check(
        records, "here"
    )
    Columns({"image": "missing"}).check([], "here")
    for name in ("answers[1]", "meta.knid", "meta[0]", "other.kind"):
        with pytest.raises(UserError, match=r"got '.*', which no row has, only answers, meta, a\.b; "):
            Columns({"gold": name}).check(records, "here")


def test_a_gap_of_a_table_is_not_written_into_a_prompt() -> None:
    assert Prompt("{options}").fill({"options": ["red", "blue", None, None]}) == "A. red\nB. blue"
    for gap in (None, float("nan")):
        with pytest.raises(KeyError, match="hint"):
            Prompt("{question} {hint}").fill({"question": "What?", "hint": gap})
