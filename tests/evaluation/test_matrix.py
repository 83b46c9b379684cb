"""The matrix keeps every cell and writes the same bytes for the same scores."""

import csv
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from lmmcl.errors import UserError
from lmmcl.evaluation.matrix import Cell, Matrix, Stage
from lmmcl.evaluation.result import Example, TaskResult
from lmmcl.run.checkpoint import as_json


def result(task: str, *scores: float) -> TaskResult:
    return TaskResult(
        task, tuple(Example(str(i), "", "", score, score != 0.25) for i, score in enumerate(scores))
    )


def filled() -> Matrix:
    matrix = Matrix(["species", "count"], ["chart"])
    matrix.put(0, "00-base", [result("species", 0, 0), result("count", 0, 1), result("chart", 1, 1)])
    matrix.put(1, "01-species", [result("species", 1, 1), result("count", 0, 0), result("chart", 1, 0.25)])
    matrix.put(1, "01-species", [result("species", 1, 0), result("chart", 1, 1)], variant="before WiSEFT")
    return matrix


def test_scores_are_means_by_stage_and_task() -> None:
    assert filled().scores(["species", "chart"]).tolist() == [[0.0, 100.0], [100.0, 62.5]]


def test_what_was_not_measured_is_nan() -> None:
    matrix = filled()
    matrix.put(2, "02-count", [result("chart", 1.0)])
    np.testing.assert_array_equal(matrix.scores(["count", "chart"])[2], [np.nan, 100.0])


def test_variants_stand_before_their_stage_and_off_the_finals() -> None:
    matrix = filled()
    assert [stage.title for stage in matrix.stages] == ["00-base", "01-species before WiSEFT", "01-species"]
    assert [stage.name for stage in matrix.finals] == ["00-base", "01-species"]
    assert [stage.trained for stage in matrix.stages] == [None, "species", "species"]


def test_the_order_of_entering_does_not_matter() -> None:
    matrix = Matrix(["species", "count"], ["chart"])
    matrix.put(1, "01-species", [result("chart", 1, 1), result("species", 1, 0)], variant="before WiSEFT")
    for task, scores in (("species", (1, 1)), ("count", (0, 0)), ("chart", (1, 0.25))):
        matrix.put(1, "01-species", [result(task, *scores)])
    matrix.put(0, "00-base", [result("species", 0, 0), result("count", 0, 1), result("chart", 1, 1)])
    assert matrix == filled()


def test_entering_twice_changes_nothing() -> None:
    matrix = filled()
    matrix.put(0, "00-base", [result("species", 0, 0)])
    assert matrix == filled()


def test_a_saved_matrix_is_loaded_as_it_was(tmp_path: Path) -> None:
    filled().save(tmp_path)
    assert Matrix.load(tmp_path) == filled()
    assert Matrix.load(tmp_path / "matrix.json") == filled()


def test_the_same_matrix_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        filled().save(tmp_path / name)
    for name in ("matrix.json", "matrix.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_csv_holds_every_cell(tmp_path: Path) -> None:
    filled().save(tmp_path)
    rows = list(csv.DictReader((tmp_path / "matrix.csv").read_text().splitlines()))
    assert len(rows) == 8
    last = rows[-1]
    assert (last["stage"], last["trained"], last["task"], last["role"]) == (
        "01-species",
        "species",
        "chart",
        "held_out",
    )
    assert (float(last["score"]), int(last["n"]), float(last["unparsed"])) == (62.5, 2, 0.5)


def test_a_cell_holds_parts_and_unreadable_share() -> None:
    cell = Cell.of(TaskResult("clock", (Example("a", "?", "", 0.0, False, {"hour": 1.0}),)))
    assert cell == Cell(0.0, 1, 1.0, {"hour": 100.0})


@pytest.mark.parametrize("text", [None, "{", "{}", '{"targets": [], "held_out": [], "stages": [{}]}'])
def test_a_missing_or_damaged_matrix_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "matrix.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=r"matrix\.json"):
        Matrix.load(path)


def test_the_file_is_the_whole_matrix_whatever_was_written_before(tmp_path: Path) -> None:
    matrix = Matrix(["a"], ["b"])
    matrix.save(tmp_path)
    assert Matrix.load(tmp_path).stages == []
    for index, name in enumerate(("00-base", "01-a")):
        for score in (0.0, 1.0):  # the second measurement of a stage takes the place of the first
            matrix.stages = [stage for stage in matrix.stages if stage.name != name]
            matrix.stages.append(Stage(index, name, cells={"b": Cell(score, 3), "a": Cell(1.0, 2)}))
            matrix.stages[0].cells["a"] = Cell(score, 2, parts={"x": score})
            matrix.save(tmp_path)
            held = {"version": 1, "targets": ["a"], "held_out": ["b"]}
            expected = as_json({**held, "stages": [asdict(stage) for stage in matrix.stages]})
            assert (tmp_path / "matrix.json").read_bytes() == expected
