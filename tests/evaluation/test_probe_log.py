"""The log of a probe: no gap, no double, the same bytes."""

import json
import math
from pathlib import Path

import pytest

from lmmcl.errors import UserError
from lmmcl.evaluation.probe_log import Probe, ProbeLog, ProbeRow, read_probes


def row(step: int, at: str = "step", stage: int = 1, **values: float) -> ProbeRow:
    return ProbeRow(stage, f"{stage:02d}-x", step, at, values or {"a": 1.0})  # type: ignore[arg-type]  # a literal


def log(run: Path, name: str = "Bias") -> ProbeLog:
    made = ProbeLog(run, name)
    made.describe("Bias", "Bias of numbers", "probability", "What it says.")
    return made


def test_rows_are_read_back_as_they_were_put(tmp_path: Path) -> None:
    rows = [row(0, "stage", 0, **{"layer 3 attention": 0.1 + 0.2}), row(1, a=1e-30), row(10)]
    for one in rows:
        log(tmp_path).put(one)
    assert read_probes(tmp_path) == [
        Probe("Bias", "Bias", "Bias of numbers", "probability", "What it says.", tuple(rows))
    ]


def test_a_line_is_json_with_sorted_keys(tmp_path: Path) -> None:
    log(tmp_path).put(row(3, b=2.0, a=1.0))
    line = (tmp_path / "probes" / "Bias.jsonl").read_text()
    assert line == ('{"at": "step", "name": "01-x", "stage": 1, "step": 3, "values": {"a": 1.0, "b": 2.0}}\n')


def test_a_reading_made_anew_replaces_the_old_one_in_its_place(tmp_path: Path) -> None:
    """A run that was killed after step 2 of a checkpoint at step 1 ends with the bytes of one that was not."""
    whole, killed = log(tmp_path / "whole"), log(tmp_path / "killed")
    steps = [row(1, a=1.0), row(2, a=2.0), row(2, "stage", a=3.0)]
    for one in steps:
        whole.put(one)
    for one in (steps[0], row(2, a=7.0), *steps[1:]):
        killed.put(one)
    assert whole.path.read_bytes() == killed.path.read_bytes()
    assert [one.place for one in killed.read()] == [(1, False), (2, False), (2, True)]


def test_a_number_that_is_none_is_null_in_the_file_and_nan_when_it_is_read(tmp_path: Path) -> None:
    log(tmp_path).put(row(1, a=math.nan, b=math.inf))
    line = (tmp_path / "probes" / "Bias.jsonl").read_text()
    assert json.loads(line)["values"] == {"a": None, "b": None}
    assert all(math.isnan(value) for value in log(tmp_path).read()[0].values.values())


def test_series_are_in_the_order_of_their_numbers() -> None:
    values = {f"layer {i} MLP": 0.0 for i in range(12)}
    probe = Probe("x", "X", "", "", "", (ProbeRow(1, "01-x", 1, "step", values), row(2, all=1.0)))
    assert probe.series == ["all", *values]


def test_a_run_without_probes_has_none(tmp_path: Path) -> None:
    assert read_probes(tmp_path) == []


@pytest.mark.parametrize("text", ["{", "[]\n", '{"stage": 1}\n'])
def test_a_damaged_log_is_named(tmp_path: Path, text: str) -> None:
    log(tmp_path).path.write_text(text)
    with pytest.raises(UserError, match=r"Bias.jsonl is damaged"):
        read_probes(tmp_path)


def test_a_log_without_its_description_is_named(tmp_path: Path) -> None:
    ProbeLog(tmp_path, "Bias").put(row(1))
    with pytest.raises(UserError, match=r"Bias.meta.json is missing"):
        read_probes(tmp_path)


@pytest.mark.parametrize("name", ["../up", "a/b", ""])
def test_a_name_that_no_file_can_bear_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="name of a probe"):
        ProbeLog(tmp_path, name)
