"""What probes read, as charts: over the steps of the run, or, where a probe reads layer by layer, over depth."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lmmcl.evaluation.probe_correlation import ProbeCorrelation
from lmmcl.evaluation.probe_log import Probe, ProbeRow
from lmmcl.report.chart import Chart, Line
from lmmcl.report.run_data import RunData
from lmmcl.report.style import signed

_MOST = 8
"""So many lines are told apart in one chart; the tables hold all."""
_LAYER = re.compile(r"layer (\d+) (.+)")
_RANK = re.compile(r"(.+) ((numerical|stable|entropy) rank)")
_RANKS = {
    "numerical rank": "Numerical: singular values that rounding cannot have made.",
    "stable rank": "Stable: the sum of the squared singular values over the largest squared one.",
    "entropy rank": "Entropy: exp of the entropy of the singular values as shares of their sum.",
}


def probe_charts(run: RunData) -> list[tuple[Chart, str]]:
    """The charts of all probes, no two of one title, and how each goes with the held-out change, in words."""
    found = [
        (chart, correlation_words(part, run.correlations, probe.name))
        for probe in run.probes
        for part in _by_rank(probe)
        if (chart := probe_chart(run, part)) is not None
    ]
    titles = [chart.title for chart, _ in found]
    return [
        (
            replace(chart, title=f"{chart.title}: {chart.unit}") if titles.count(chart.title) > 1 else chart,
            words,
        )
        for chart, words in found
    ]


def _by_rank(probe: Probe) -> list[Probe]:
    """A probe of several kinds of rank as one for each, its series called by their group; any other as it is."""
    matches = {name: _RANK.fullmatch(name) for name in probe.series}
    if not matches or not all(matches.values()):
        return [probe]
    parts = []
    for kind, about in _RANKS.items():
        short = {name: match[1] for name, match in matches.items() if match is not None and match[2] == kind}
        rows = [
            replace(row, values={short[n]: v for n, v in row.values.items() if n in short})
            for row in probe.rows
        ]
        if short:
            parts.append(
                replace(
                    probe,
                    name=f"{probe.name.removesuffix(' rank')} {kind}",
                    title=f"{probe.title}: {kind.removesuffix(' rank')}",
                    about=f"{probe.about} {about}",
                    rows=tuple(rows),
                )
            )
    return parts


def probe_chart(run: RunData, probe: Probe) -> Chart | None:
    """One probe; None before its second reading."""
    layers = [_LAYER.fullmatch(name) for name in probe.series]
    if layers and all(layers):
        return _over_depth(run, probe)
    if len({row.step for row in probe.rows if any(map(np.isfinite, row.values.values()))}) < 2:
        return None
    return _over_steps(run, probe)


def strongest(correlations: Sequence[ProbeCorrelation]) -> list[ProbeCorrelation]:
    """Those that have a number, the strongest first."""
    known = [one for one in correlations if one.correlation.pearson.defined]
    return sorted(known, key=lambda one: (-abs(one.correlation.pearson.value), one.probe, one.series))


def correlation_words(probe: Probe, correlations: Sequence[ProbeCorrelation], log: str) -> str:
    """How the probe's most telling series goes with the held-out change over the stages; "" where nothing is known.

    Args:
        probe: that is shown: a log of the run, or the part of one that holds one kind of rank.
        correlations: of all series of the run.
        log: name of the whole log.
    """
    found = strongest([shown for one in correlations if (shown := _shown(probe, one, log)) is not None])
    if not found:
        return ""
    best = found[0].correlation.pearson
    known = np.isfinite(best.low)
    between = f" [{signed(best.low, 2)}, {signed(best.high, 2)}]" if known else ""
    return (
        f"Correlation of \u201c{found[0].series}\u201d with the held-out change over {found[0].correlation.n} stages: "
        f"{signed(best.value, 2)}{between}."
    )


def _shown(probe: Probe, one: ProbeCorrelation, log: str) -> ProbeCorrelation | None:
    """The correlation under the name that its series has in a chart; None if the chart does not hold it."""
    if one.probe != log or probe.name == log:
        return one if one.probe == probe.name else None
    match = _RANK.fullmatch(one.series)
    return replace(one, series=match[1]) if match is not None and probe.name.endswith(match[2]) else None


def _over_steps(run: RunData, probe: Probe) -> Chart:
    columns = {name: _column(probe.rows, name) for name in probe.series}
    widest = sorted(columns, key=lambda name: -_spread([y for _, y in columns[name]]))[:_MOST]
    shown = [name for name in columns if name in widest and columns[name]]
    lines = [
        Line(
            name,
            [x for x, _ in columns[name]],
            [y for _, y in columns[name]],
            colour=i,
            dots=len(columns[name]) < 40,
        )
        for i, name in enumerate(shown)
    ]
    more = f" Shown: the {len(shown)} of {len(columns)} that move most." if len(shown) < len(columns) else ""
    first = min(x for line in lines for x in line.x)
    return Chart(
        f"probe_{probe.name}",
        probe.title,
        f"{probe.about}{more}",
        lines,
        unit=probe.unit,
        x_title="training on" if run.stage_spans else "optimizer steps",
        # A share of what was lost is not known of the base model: no stage stands before the axis begins.
        ticks=[(middle, task) for middle, task in run.stage_spans if middle >= first],
        rules=[end for end in run.stage_ends[:-1] if end >= first],
    )


def _column(rows: Sequence[ProbeRow], name: str) -> list[tuple[float, float]]:
    """Steps and values of a series; where a step and its stage were read, the stage's final weights count."""
    known = {float(row.step): row.values[name] for row in rows if name in row.values}
    return [(step, value) for step, value in sorted(known.items()) if np.isfinite(value)]


def _spread(values: Sequence[float]) -> float:
    return float(np.ptp(values)) if len(values) else -1.0


def _over_depth(run: RunData, probe: Probe) -> Chart | None:
    """Layer by layer after the last stage, earlier stages in grey."""
    stages = [row for row in probe.at_stages if row.stage and row.values]
    if not stages:
        return None
    lines: list[Line] = []
    for row in stages:
        found: dict[str, list[tuple[int, float]]] = {}
        for name, value in row.values.items():
            match = _LAYER.fullmatch(name)
            if match is not None:
                found.setdefault(match.group(2), []).append((int(match.group(1)), value))
        last = row is stages[-1]
        for i, (kind, points) in enumerate(sorted(found.items())):
            xs, ys = zip(*sorted(points), strict=True)
            name, weight = (kind, "plain") if last else ("", "faint")
            lines.append(
                Line(name, xs, ys, colour=i if last else None, weight=weight, dots=last)  # type: ignore[arg-type]  # one of two
            )
    after = (
        run.stage_name(stages[-1].stage) if stages[-1].stage <= len(run.matrix.targets) else stages[-1].name
    )
    earlier = "; grey: after earlier stages" if len(stages) > 1 else ""
    return Chart(
        f"probe_{probe.name}",
        probe.title,
        f"{probe.about} After {after.replace('_', ' ')}{earlier}.",
        lines,
        unit=probe.unit,
        x_title="layer",
    )
