"""What probes read, as charts: over the steps of the run, or, where a probe reads layer by layer, over depth."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from lmmcl.evaluation.probe_correlation import ProbeCorrelation
from lmmcl.evaluation.probe_log import Probe, ProbeRow
from lmmcl.report.chart import Chart, Line
from lmmcl.report.run_data import RunData
from lmmcl.report.style import signed

_MOST = 8
"""So many lines are told apart in one chart; the tables hold all."""
_LAYER = re.compile(r"layer (\d+) (.+)")


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


def correlation_words(probe: Probe, correlations: Sequence[ProbeCorrelation]) -> str:
    """How the probe's most telling series goes with the held-out change over the stages; "" where nothing is known."""
    found = strongest([one for one in correlations if one.probe == probe.name])
    if not found:
        return ""
    best = found[0].correlation.pearson
    known = np.isfinite(best.low)
    between = f" [{signed(best.low, 2)}, {signed(best.high, 2)}]" if known else ""
    return (
        f"Correlation of \u201c{found[0].series}\u201d with the held-out change over {found[0].correlation.n} stages: "
        f"{signed(best.value, 2)}{between}."
    )


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
    return Chart(
        f"probe_{probe.name}",
        probe.title,
        f"{probe.about}{more}",
        lines,
        unit=probe.unit,
        x_title="training on" if run.stage_spans else "optimizer steps",
        ticks=run.stage_spans,
        rules=run.stage_ends[:-1],
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
