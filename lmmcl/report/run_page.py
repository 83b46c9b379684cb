"""The page of one run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from lmmcl import __version__
from lmmcl.cost import StageCost, total_cost
from lmmcl.evaluation.flipped_examples import FlippedExample
from lmmcl.evaluation.summary import Estimate, Summary
from lmmcl.report import svg
from lmmcl.report.answers import spells
from lmmcl.report.chart import Chart
from lmmcl.report.chart_svg import line_chart
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
from lmmcl.report.pictures import data_uri
from lmmcl.report.probe_charts import probe_charts
from lmmcl.report.run_charts import (
    choice_charts,
    held_out_curves,
    target_curves,
    training_charts,
    unreadable_chart,
)
from lmmcl.report.run_data import RunData
from lmmcl.report.style import signed
from lmmcl.report.words import (
    FURTHER,
    HEADLINES,
    count_word,
    interval_text,
    seconds_text,
    sentence,
    size_text,
)

_SAMPLES = 24
"""So many sampled questions are shown, of every task in turns; the tables hold all."""


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
        "cards": _cards(run),
        "matrix": matrix_view(run, intervals),
        "curves": [chart_view(chart) for chart in (target_curves(run), held_out_curves(run)) if chart],
        "samples": [_sample(run, one) for one in _in_turns(run)],
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
        "cost": [cost_row(cost) for cost in [*costs, *([total_cost(costs)] if costs else [])]],
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


@dataclass(frozen=True)
class Card:
    """One of the four numbers."""

    title: str
    estimate: Estimate
    between: str
    what: str
    bar: Markup


def _cards(run: RunData) -> list[Card]:
    if run.summary is None:
        return []
    known = [entry for entry in HEADLINES if entry[0] in run.summary.estimates]
    estimates = [run.summary[key] for key, _, _ in known]
    ends = [abs(end) for one in estimates if one.defined for end in (one.low, one.high, one.value)]
    reach = max([1.0, *ends])
    cards = []
    for key, name, what in known:
        estimate, between, bar = run.summary[key], "needs two targets", Markup("")
        if key == "recovery":
            what = _since(run, run.summary)
            if run.done < 2:
                estimate, between = Estimate(math.nan, math.nan, math.nan), "needs two stages"
        if estimate.defined:
            between, bar = f"95 % {interval_text(estimate)}", interval_bar(estimate, reach)
        cards.append(Card(name, estimate, between, what, bar))
    return cards


def _since(run: RunData, summary: Summary) -> str:
    """What a recovery is counted from."""
    if summary.worst_stage is None or run.done < 2:
        return "what came back since the worst stage of the held-out tasks"
    worst = signed(summary["worst_held_out_change"].value, 1)
    after = run.stage_name(summary.worst_stage).replace("_", " ")
    if summary.worst_stage == run.done:
        return f"the last stage, {after}, is the worst of the held-out tasks ({worst})"
    return f"since the worst stage of the held-out tasks, {after} ({worst})"


def interval_bar(estimate: Estimate, reach: float) -> Markup:
    """The interval on a line with zero in its middle; all of a page share the scale."""
    width, height = 220.0, 26.0

    def x(value: float) -> float:
        return width / 2 + value / reach * (width / 2 - 8)

    middle = height / 2
    colour = "gain" if estimate.value > 0 else "loss"
    parts = [
        svg.element("line", x1=0.0, x2=width, y1=middle, y2=middle, class_="grid"),
        svg.element("line", x1=width / 2, x2=width / 2, y1=3.0, y2=height - 3, class_="zero"),
        svg.element(
            "line", x1=x(estimate.low), x2=x(estimate.high), y1=middle, y2=middle, class_=f"ci wide {colour}"
        ),
        svg.element("circle", cx=x(estimate.value), cy=middle, r=5.0, class_=f"dot {colour}"),
    ]
    said = (
        f"{signed(estimate.value, 1)} {interval_text(estimate)} on a line from −{reach:.0f} to +{reach:.0f}"
    )
    return svg.picture(parts, width, height, said, "interval")


@dataclass(frozen=True)
class SampleView:
    """One sampled question in the page."""

    task: str
    question: str
    gold: str
    picture: str
    spells: Sequence[Any]


def _in_turns(run: RunData) -> list[Any]:
    tasks = [*run.matrix.tasks, *sorted({one.task for one in run.samples} - set(run.matrix.tasks))]
    piles = {task: [one for one in run.samples if one.task == task] for task in tasks}
    rounds = max((len(pile) for pile in piles.values()), default=0)
    dealt = [pile[k] for k in range(rounds) for pile in piles.values() if k < len(pile)][:_SAMPLES]
    return sorted(dealt, key=lambda one: tasks.index(one.task))


def _sample(run: RunData, one: Any) -> SampleView:
    return SampleView(one.task, one.question, one.gold, data_uri(one.picture), spells(run, one))


def cost_row(cost: StageCost) -> tuple[str, ...]:
    """A row of the table of costs."""
    phase = {"train": "training", "evaluate": "measuring"}[cost.phase]
    total = cost.name == "total"
    return (
        "total" if total else cost.name,
        "" if total else phase,
        seconds_text(cost.seconds),
        f"{cost.samples:,}",
        f"{cost.tokens:,}",
        size_text(cost.flops, "FLOP"),
        size_text(cost.peak_memory_bytes, "B"),
    )


def cost_words(costs: Sequence[StageCost]) -> str:
    """``4.1 min, 8,200 samples, 3.1 TFLOP, at most 1.2 GB``."""
    if not costs:
        return ""
    total = total_cost(costs)
    return (
        f"{seconds_text(total.seconds)}, {total.samples:,} samples, {size_text(total.flops, 'FLOP')}, "
        f"at most {size_text(total.peak_memory_bytes, 'B')}"
    )
