"""The curves carry the scores, and mark the worst stage and what came back."""

import numpy as np

from lmmcl.evaluation.matrix import Matrix
from lmmcl.report.curves import curves
from tests.report.fake_run import fake_run, result


def said(matrix: Matrix) -> str:
    return "\n".join(text.get_text() for axes in curves(matrix).axes for text in axes.texts)


def test_the_bold_line_is_the_mean_held_out_change() -> None:
    matrix, summary = fake_run()
    panel = curves(matrix, summary).axes[1]
    bold = max(panel.lines, key=lambda line: line.get_linewidth())
    scores = matrix.scores(matrix.held_out)
    np.testing.assert_allclose(np.asarray(bold.get_ydata()), (scores - scores[:1]).mean(axis=1))


def test_worst_stage_and_recovery_are_named() -> None:
    matrix, summary = fake_run()
    assert summary is not None
    worst, back = summary["worst_held_out_change"].value, summary["recovery"].value
    assert f"worst −{abs(worst):.1f}" in said(matrix)
    assert f"+{back:.1f} came back" in said(matrix)


def test_nothing_came_back_when_the_last_stage_is_the_worst() -> None:
    matrix, _ = fake_run(stages=2)
    assert "came back" not in said(matrix)


def test_a_single_stage_is_no_worst_one() -> None:
    assert "worst" not in said(fake_run(stages=1)[0]) and "worst" in said(fake_run(stages=2)[0])


def test_a_task_that_was_not_always_measured_is_left_out() -> None:
    matrix, _ = fake_run(stages=2)
    matrix.put(
        3,
        "03-tissue",
        [result(task, 50, 3, 50, 0) for task in matrix.tasks if task not in ("chart", "count")],
    )
    names = said(matrix).split("\n")
    assert "chart" not in names and "count" not in names and {"diagram", "species"} <= set(names)


def test_a_run_without_held_out_tasks_has_one_panel() -> None:
    matrix = Matrix(["a"], [])
    matrix.put(0, "00-base", [result("a", 10, 0, 20, 0)])
    matrix.put(1, "01-a", [result("a", 90, 1, 20, 0)])
    assert len(curves(matrix).axes) == 1
