"""The heat map says every score and marks every trained cell."""

import pytest
from matplotlib.patches import FancyBboxPatch

from lmmcl.evaluation.matrix import Matrix
from lmmcl.report.heat_map import heat_map
from tests.report.fake_run import fake_run, result


def texts(matrix: Matrix) -> list[str]:
    return [text.get_text() for axes in heat_map(matrix).axes for text in axes.texts]


@pytest.mark.parametrize("stages", [0, 1, 5])
def test_every_score_stands_in_its_cell(stages: int) -> None:
    matrix, _ = fake_run(stages=stages)
    shown = texts(matrix)
    for stage in matrix.stages:
        for cell in stage.cells.values():
            assert f"{cell.score:.1f}" in shown
            shown.remove(f"{cell.score:.1f}")


def test_one_frame_per_trained_target_and_none_on_variants() -> None:
    matrix, _ = fake_run(stages=3)
    matrix.put(1, "01-species", [result("species", 60, 1, 50, 0)], variant="before WiSEFT")
    frames = [
        patch for axes in heat_map(matrix).axes for patch in axes.patches if isinstance(patch, FancyBboxPatch)
    ]
    assert len(frames) == 3
    assert "before WiSEFT" in texts(matrix)


def test_a_task_that_was_not_measured_is_a_dash() -> None:
    matrix = Matrix(["a", "b"], [])
    matrix.put(0, "00-base", [result("a", 50, 0, 20, 0)])
    assert texts(matrix).count("–") == 2
