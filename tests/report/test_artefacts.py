"""Summary and pictures of a run: made of its files, the same bytes every time."""

from pathlib import Path
from shutil import copytree

import pytest

from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.predictions import PredictionStore
from lmmcl.evaluation.statistics import target_learning
from lmmcl.report.artefacts import load_summary, summary_of, write_artefacts
from tests.report.fake_run import result
from tests.tiny_run import TinyRun


def test_the_summary_of_a_run_is_that_of_its_matrix(finished: TinyRun) -> None:
    matrix = Matrix.load(finished.path)
    summary = load_summary(finished.path)
    assert summary is not None
    assert summary == summary_of(finished.path, matrix)
    assert summary["target_learning"].value == float(target_learning(matrix.scores(matrix.targets)))


def test_writing_twice_gives_the_same_bytes(finished: TinyRun, tmp_path: Path) -> None:
    copy = copytree(finished.path, tmp_path / "copy")
    written = [*copy.glob("figures/*"), *copy.glob("tables/*"), copy / "report.html"]
    assert len(written) > 8
    for path in written:
        path.unlink()
    write_artefacts(copy)
    for path in written:
        assert path.read_bytes() == (finished.path / path.relative_to(copy)).read_bytes(), path.name


def test_a_run_that_has_only_measured_the_base_model_has_no_summary_yet(
    finished: TinyRun, tmp_path: Path
) -> None:
    matrix = Matrix.load(finished.path)
    matrix.stages = matrix.stages[:1]
    matrix.save(tmp_path)
    assert write_artefacts(tmp_path) is None
    assert load_summary(tmp_path) is None
    assert "Only the base model is measured so far." in (tmp_path / "report.html").read_text()
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["matrix.png", "matrix.svg"]


def write_run(folder: Path, stages: list[dict[str, float]]) -> None:
    """A run that trained tasks a and b and measured these scores after every stage."""
    matrix, store = Matrix(["a", "b"], ["held"]), PredictionStore(folder / "predictions")
    for k, (name, scores) in enumerate(zip(("00-base", "01-a", "02-b"), stages, strict=True)):
        found = [result(task, score, k, 20, 0) for task, score in scores.items()]
        matrix.put(k, name, found)
        for one in found:
            store.write(name, "key", one)
    matrix.save(folder)


def test_a_held_out_task_that_is_not_measured_at_every_stage_changes_nothing(tmp_path: Path) -> None:
    always = [{"a": 10.0, "b": 20.0, "held": 90.0 - k} for k in range(3)]
    write_run(tmp_path / "always", always)
    write_run(tmp_path / "later", [always[0], *({**scores, "probe": 50.0} for scores in always[1:])])
    assert write_artefacts(tmp_path / "later") == write_artefacts(tmp_path / "always")
    for path in (tmp_path / "always" / "figures").iterdir():
        assert path.read_bytes() == (tmp_path / "later" / "figures" / path.name).read_bytes()
    assert "probe" in (tmp_path / "later" / "matrix.csv").read_text()


@pytest.mark.parametrize("left_out", [["a"], ["b"], ["a", "b"]])
def test_without_a_target_at_some_stage_there_are_pictures_and_no_summary(
    tmp_path: Path, left_out: list[str]
) -> None:
    scores = {"a": 10.0, "b": 20.0, "held": 90.0}
    base = {task: score for task, score in scores.items() if task not in left_out}
    write_run(tmp_path, [base, scores, scores])
    with pytest.warns(UserWarning, match=f"no summary, .* {', '.join(left_out)} was left out"):
        assert write_artefacts(tmp_path) is None
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"matrix", "curves"}
