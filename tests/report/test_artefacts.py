"""Summary and pictures of a run: made of its files, the same bytes every time."""

from pathlib import Path
from shutil import copytree

from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.statistics import target_learning
from lmmcl.report.artefacts import load_summary, summary_of, write_artefacts
from tests.tiny_run import TinyRun


def test_the_summary_of_a_run_is_that_of_its_matrix(finished: TinyRun) -> None:
    matrix = Matrix.load(finished.path)
    summary = load_summary(finished.path)
    assert summary is not None
    assert summary == summary_of(finished.path, matrix)
    assert summary["target_learning"].value == float(target_learning(matrix.scores(matrix.targets)))


def test_writing_twice_gives_the_same_bytes(finished: TinyRun, tmp_path: Path) -> None:
    copy = copytree(finished.path, tmp_path / "copy")
    for path in copy.glob("figures/*"):
        path.unlink()
    write_artefacts(copy)
    for path in finished.path.glob("figures/*"):
        assert path.read_bytes() == (copy / "figures" / path.name).read_bytes()


def test_a_run_that_has_only_measured_the_base_model_has_no_summary_yet(
    finished: TinyRun, tmp_path: Path
) -> None:
    matrix = Matrix.load(finished.path)
    matrix.stages = matrix.stages[:1]
    matrix.save(tmp_path)
    assert write_artefacts(tmp_path) is None
    assert load_summary(tmp_path) is None
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["matrix.png", "matrix.svg"]
