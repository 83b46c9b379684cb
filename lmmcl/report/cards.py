"""The four numbers of a page, each with its interval on a line."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from lmmcl.evaluation.summary import Estimate, Summary
from lmmcl.report import svg
from lmmcl.report.run_data import RunData
from lmmcl.report.style import signed
from lmmcl.report.words import HEADLINES, interval_text


@dataclass(frozen=True)
class Card:
    """One of the four numbers."""

    title: str
    estimate: Estimate
    between: str
    what: str
    bar: Markup


def cards_of(run: RunData) -> list[Card]:
    """The cards of a page; none where the run has no statistics."""
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
