"""All pictures of a run, as PNG and SVG."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.summary import Summary
from lmmcl.report.chart import Chart
from lmmcl.report.chart_figure import chart_figure
from lmmcl.report.comparison import comparison
from lmmcl.report.curves import curves
from lmmcl.report.heat_map import heat_map
from lmmcl.report.price import HELD_OUT, Price
from lmmcl.report.style import save


def draw_run(matrix: Matrix, summary: Summary | None, folder: Path) -> list[Path]:
    """Writes ``matrix.png``, ``matrix.svg``, ``curves.png`` and ``curves.svg`` of a run into a folder.

    Args:
        matrix: at least the base model; the curves need a stage, too, and are left out before.
        summary: adds intervals.
        folder: made if need be.

    Returns:
        The written paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = save(heat_map(matrix), folder / "matrix", "Scores by stage and task")
    if len(matrix.finals) > 1:
        written += save(curves(matrix, summary), folder / "curves", "Scores over stages")
    return written


def draw_charts(charts: Sequence[Chart], folder: Path) -> list[Path]:
    """Writes ``<name>.png`` and ``.svg`` of line charts.

    Returns:
        The written paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [path for chart in charts for path in save(chart_figure(chart), folder / chart.name, chart.title)]


def draw_comparison(
    runs: Mapping[str, Sequence[Summary]], folder: Path, front: Sequence[str] = (), price: Price = HELD_OUT
) -> list[Path]:
    """Writes ``comparison.png`` and ``.svg`` of several runs, each given by the summaries of its seeds.

    Args:
        runs: name of a way to train -> the summaries of its seeds.
        folder: made if need be.
        front: names of those on the Pareto front.
        price: what learning is set against.

    Returns:
        The written paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return save(comparison(runs, front, price), folder / "comparison", f"Learning against {price.name}")
