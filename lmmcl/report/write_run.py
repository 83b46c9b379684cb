"""Writes the report of one run: the page, its figures and its tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lmmcl.cost import read_cost
from lmmcl.evaluation.flipped_examples import read_flips
from lmmcl.report.csv_tables import TABLES, run_tables, write_tables
from lmmcl.report.figures import draw_charts, draw_run
from lmmcl.report.matrix_view import cell_intervals
from lmmcl.report.probe_charts import probe_charts
from lmmcl.report.run_charts import choice_charts, unreadable_chart
from lmmcl.report.run_data import RunData
from lmmcl.report.run_page import run_page
from lmmcl.report.words import beside
from lmmcl.run.checkpoint import naming_disk_errors, write_atomically

REPORT = "report.html"
FIGURES = "figures"


def write_run_report(run: RunData, to: Path | None = None, *, costs: bool) -> Path:
    """Writes ``report.html``, ``figures/`` and ``tables/``; the same run gives the same bytes.

    Args:
        run: at least its base model is measured.
        to: the page; figures and tables lie beside it. None: in the run's folder.
        costs: say what the run cost, which no other run of the same config repeats to the second.

    Returns:
        The page.
    """
    page = to or run.path / REPORT
    figures, tables = _beside(run, page)
    with naming_disk_errors(page):
        page.parent.mkdir(parents=True, exist_ok=True)
    spent = read_cost(run.path) if costs else []
    intervals = cell_intervals(run)
    flipped = read_flips(run.path, run.answered)
    matrix = replace(run.matrix, held_out=run.held_out)
    draw_run(matrix, run.summary, figures)
    unreadable = unreadable_chart(run)
    charts = [*([unreadable] if unreadable else []), *(chart for chart, _ in probe_charts(run))]
    draw_charts([*charts, *choice_charts(run)], figures)
    write_tables(run_tables(run, intervals, flipped, spent), tables)
    write_atomically(page, run_page(run, intervals, flipped, spent, files=beside(figures, tables)))
    return page


def _beside(run: RunData, page: Path) -> tuple[Path, Path]:
    """Folders of figures and tables; a page elsewhere has its own, so that two in one folder do not mix."""
    if page.parent.resolve() == run.path.resolve():
        return page.parent / FIGURES, page.parent / TABLES
    return page.parent / f"{page.stem}_{FIGURES}", page.parent / f"{page.stem}_{TABLES}"
