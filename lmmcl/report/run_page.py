"""The page of one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from lmmcl import __version__
from lmmcl.cost import StageCost
from lmmcl.evaluation.flipped_examples import FlippedExample
from lmmcl.report.cards import cards_of
from lmmcl.report.chart import Chart
from lmmcl.report.chart_svg import line_chart
from lmmcl.report.cost_view import cost_rows, cost_words
from lmmcl.report.facts import (
    config_text,
    environment,
    facts,
    mitigations,
    plan_rows,
    probes,
    recipe_text,
    title_of,
)
from lmmcl.report.flip_view import CAUSES, flip_rows
from lmmcl.report.matrix_view import Intervals, matrix_view
from lmmcl.report.page import render
from lmmcl.report.probe_charts import probe_charts
from lmmcl.report.run_charts import (
    choice_charts,
    held_out_curves,
    target_curves,
    training_charts,
    unreadable_chart,
)
from lmmcl.report.run_data import RunData
from lmmcl.report.sample_view import sample_views
from lmmcl.report.style import signed
from lmmcl.report.words import FURTHER, count_word, interval_text, sentence


@dataclass(frozen=True)
class ChartView:
    """A chart in the page; ``unit`` is empty where the words above it say it already."""

    title: str
    about: str
    unit: str
    svg: Markup
    more: str = ""


def chart_view(chart: Chart, more: str = "") -> ChartView:
    """The chart and its texts."""
    said = f"{chart.title} {chart.about}".lower()
    unit = "" if chart.unit in ("score", "points", "%") or chart.unit.lower() in said else chart.unit
    return ChartView(chart.title, chart.about, unit, line_chart(chart), more)


def run_page(
    run: RunData,
    intervals: Intervals,
    flipped: Sequence[FlippedExample],
    costs: Sequence[StageCost] = (),
    title: str = "",
    files: str = "",
) -> bytes:
    """The report of one run; sections it has no data for are left out.

    Args:
        run: at least its base model is measured.
        intervals: of the matrix.
        flipped: its flipped answers.
        costs: what it cost; none: the page says nothing of it, and is the same bytes however long the run took.
        title: instead of what it was taught.
        files: where figures and tables lie, in words.
    """
    context: dict[str, Any] = {
        "title": title or title_of(run),
        "version": __version__,
        "sentence": sentence(run),
        "kicker": kicker(run),
        "warnings": warnings(run),
        "cards": cards_of(run),
        "matrix": matrix_view(run, intervals),
        "curves": [chart_view(chart) for chart in (target_curves(run), held_out_curves(run)) if chart],
        "samples": sample_views(run),
        "flips": flip_rows(run, flipped) if run.done else [],
        "causes": CAUSES,
        "probes": [chart_view(chart, more) for chart, more in probe_charts(run)],
        "unreadable": [chart_view(chart) for chart in (unreadable_chart(run),) if chart],
        "training": [chart_view(chart) for chart in training_charts(run)],
        "choices": [chart_view(chart) for chart in choice_charts(run)],
        "plan": plan_rows(run),
        "mitigations": mitigations(run),
        "measuring": probes(run),
        "facts": facts(run),
        "environment": environment(run),
        "config": config_text(run),
        "cost": cost_rows(costs),
        "cost_total": cost_words(costs),
        "further": [
            (name, signed(run.summary[key].value, 1), interval_text(run.summary[key]), what)
            for key, name, what in FURTHER
            if run.summary is not None and key in run.summary.estimates and run.summary[key].defined
        ],
        "files": files,
    }
    context["sections"] = _sections(context)
    return render("run.html.j2", context)


def _sections(context: dict[str, Any]) -> list[tuple[str, str]]:
    known = (
        ("matrix", "Matrix", True),
        ("curves", "Curves", context["curves"]),
        ("answers", "Answers", context["samples"]),
        ("flips", "Flips", context["flips"]),
        ("probes", "Probes", context["probes"]),
        ("training", "Unreadable & training", context["unreadable"] or context["training"]),
        ("choices", "Choices", context["choices"]),
        ("making", "How it was made", True),
    )
    return [(anchor, name) for anchor, name, shown in known if shown]


def kicker(run: RunData) -> str:
    """Recipe, mitigations, and how much was measured."""
    model = run.config.get("model", {})
    parts = []
    if model:
        fought = " + ".join([recipe_text(model.get("recipe")), *(name for name, _ in mitigations(run))])
        parts.append(f"Recipe {fought}")
        parts.append(f"seed {model.get('seed', 0)}")
    sizes = sorted({cell.n for stage in run.matrix.finals for cell in stage.cells.values()})
    if sizes:
        several = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        parts.append(f"{count_word(len(run.matrix.tasks), 'task')}, {several} examples each")
    return " · ".join(parts)


def warnings(run: RunData) -> list[str]:
    """What a reader must know before the numbers."""
    found = []
    if not run.finished:
        left = len(run.matrix.targets) - run.done
        found.append(
            f"This run is not finished: {run.done} of {count_word(len(run.matrix.targets), 'stage')} measured, "
            f"{left} to go. Go on with --ckpt_path last; until then the numbers are those of the last measured stage."
        )
    partly = [task for task in run.matrix.held_out if task not in run.held_out]
    if partly and run.done:
        found.append(f"Not measured at every stage, and so in no mean or statistic: {', '.join(partly)}.")
    lost = [task for task in run.matrix.tasks if task not in run.answered]
    if lost:
        found.append(
            f"Answers are missing in predictions/, so there are no intervals and no flips of {', '.join(lost)}; lmmcl "
            "validate measures them again."
        )
    critical = run.summary.critical_flips if run.summary is not None else []
    if critical:
        shown = ", ".join(critical[:10]) + ("" if len(critical) <= 10 else f" and {len(critical) - 10} more")
        found.append(f"Critical rows that were right and are wrong ({len(critical)}): {shown}.")
    return found
