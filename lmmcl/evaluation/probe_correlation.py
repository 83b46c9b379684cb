"""Which probe goes with forgetting: correlation of its readings at stages with the held-out change at those stages."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmmcl.evaluation.bootstrap import RESAMPLES, interval
from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.probe_log import Probe
from lmmcl.evaluation.statistics import held_out_curve
from lmmcl.evaluation.student_t import quantile
from lmmcl.evaluation.summary import Estimate

Values = NDArray[np.float64]

FEWEST = 4
"""Points of which a correlation is worth a number: of three, two random series agree to 0.9 in one case of seven."""
_UNKNOWN = Estimate(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Correlation:
    """How two quantities go together.

    Args:
        pearson: linear correlation, -1 to 1, with its 95 % interval; nan where it is not defined.
        spearman: that of the ranks.
        n: number of points.
        runs: that they come from.
        note: why there is no number, or no interval; empty where there are both.
    """

    pearson: Estimate
    spearman: Estimate
    n: int
    runs: int
    note: str = ""


@dataclass(frozen=True)
class ProbeCorrelation:
    """The correlation of one series of a probe with the held-out change."""

    probe: str
    series: str
    correlation: Correlation


def pearson(x: Values, y: Values, counts: Values | None = None) -> Values:
    """Linear correlation over the last axis; nan where either does not vary.

    Args:
        x: (..., n).
        y: (..., n).
        counts: (..., n), how often each point counts; None: once.

    Returns:
        (...).
    """
    counts = np.ones(x.shape[-1]) if counts is None else counts
    total = counts.sum(axis=-1, keepdims=True)
    x, y = (v - (counts * v).sum(axis=-1, keepdims=True) / total for v in (x, y))
    scale = np.sqrt((counts * x * x).sum(axis=-1) * (counts * y * y).sum(axis=-1))
    # Equal values leave the rounding of their mean behind.
    floor = 1e-12 * np.abs(x).max(axis=-1) * np.abs(y).max(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.clip((counts * x * y).sum(axis=-1) / scale, -1.0, 1.0)
    return np.asarray(np.where(scale > floor, found, np.nan))


def mean_ranks(x: Values, counts: Values | None = None) -> Values:
    """Ranks from 1; equal values share the mean of theirs.

    Args:
        x: (n,).
        counts: (..., n), how often each value counts; None: once.

    Returns:
        (..., n).
    """
    counts = np.ones(len(x)) if counts is None else counts
    below, equal = (x[:, None] < x).astype(float), (x[:, None] == x).astype(float)
    return np.asarray(counts @ below + (counts @ equal + 1) / 2)


def spearman(x: Values, y: Values, counts: Values | None = None) -> Values:
    """Rank correlation: `pearson` of `mean_ranks`.

    Args:
        x: (n,).
        y: (n,).
        counts: (..., n), how often each point counts; None: once.

    Returns:
        (...).
    """
    return pearson(mean_ranks(x, counts), mean_ranks(y, counts), counts)


def correlate(
    runs: Sequence[tuple[Sequence[float], Sequence[float]]],
    seed: Sequence[int] = (0,),
    resamples: int = RESAMPLES,
) -> Correlation:
    """Correlation over the points of one or several runs, with an interval.

    Stages of one run depend on one another; with several runs the interval is for what other runs would give: Student's
    t of the jackknife over whole runs (Tukey 1958) on Fisher's scale, z ± t · s/√k with z = artanh r and s the
    deviation of the pseudo-values k z − (k − 1) z_without_run, k − 1 degrees of freedom. A bootstrap of two or three
    runs would cover half and three quarters. Of one run it is the percentile bootstrap over its stages, and says
    nothing of other runs.

    Args:
        runs: of each run the probe's readings and as many held-out changes; points with a nan are left out.
        seed: numbers that name the stream.
        resamples: number of draws.

    Returns:
        With a note in place of numbers where there are fewer than four points, or a quantity does not vary; and in
        place of the interval where that is so without one of the runs.
    """
    pairs = [
        np.array([p for p in zip(x, y, strict=True) if np.isfinite(p).all()]).reshape(-1, 2) for x, y in runs
    ]
    pairs = [pair for pair in pairs if len(pair)]
    points = np.concatenate(pairs) if pairs else np.empty((0, 2))
    n = len(points)
    if n < FEWEST:
        return Correlation(_UNKNOWN, _UNKNOWN, n, len(pairs), "too few points")
    x, y = points.T
    found = float(pearson(x, y)), float(spearman(x, y))
    if math.isnan(found[0]):
        return Correlation(_UNKNOWN, _UNKNOWN, n, len(pairs), "does not vary")
    statistics = (pearson, spearman)
    if len(pairs) == 1:
        counts = np.random.default_rng(list(seed)).multinomial(n, np.full(n, 1 / n), size=resamples)
        ends = [_interval(statistic(x, y, counts.astype(float))) for statistic in statistics]
    else:
        ends = [_over_runs(pairs, value, of) for value, of in zip(found, statistics, strict=True)]
    estimates = [Estimate(value, *end) for value, end in zip(found, ends, strict=True)]
    few = len(pairs) > 1 and math.isnan(ends[0][0])
    note = "no interval: not defined without one of the runs" if few else ""
    return Correlation(estimates[0], estimates[1], n, len(pairs), note)


def _over_runs(
    pairs: Sequence[Values], value: float, statistic: Callable[..., Values]
) -> tuple[float, float]:
    """The interval over two runs or more; nan where it is not defined without one of them."""
    k = len(pairs)
    without = [np.concatenate([*pairs[:i], *pairs[i + 1 :]]).T for i in range(k)]
    if any(points.shape[1] < FEWEST for points in without):
        return math.nan, math.nan
    z = _fisher(value)
    pseudo = [k * z - (k - 1) * _fisher(float(statistic(*points))) for points in without]
    reach = quantile(k - 1) * float(np.std(pseudo, ddof=1)) / math.sqrt(k)
    return math.tanh(z - reach), math.tanh(z + reach)


def _fisher(correlation: float) -> float:
    """Fisher's z; that of a perfect correlation is large and finite."""
    return math.atanh(float(np.clip(correlation, -1 + 1e-9, 1 - 1e-9)))


def _interval(values: Values) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    return interval(known) if len(known) >= len(values) / 2 else (math.nan, math.nan)


def held_out_changes(matrix: Matrix) -> dict[int, float]:
    """The held-out change of every measured stage, in points; 0 at the base model, empty without such tasks."""
    tasks = matrix.measured(matrix.held_out)
    if not tasks or not matrix.finals:
        return {}
    curve = held_out_curve(matrix.scores(tasks))
    return {stage.index: float(change) for stage, change in zip(matrix.finals, curve, strict=True)}


def probe_correlations(
    runs: Sequence[tuple[Sequence[Probe], Mapping[int, float]]], seed: int = 0, resamples: int = RESAMPLES
) -> list[ProbeCorrelation]:
    """Correlation of every series of every probe with the held-out change, over the stages of one or several runs.

    The base model is left out: there the change is 0 by definition, and so are many probes, which would make any
    two of them agree.

    Args:
        runs: of each its probes (`read_probes`) and its `held_out_changes`.
        seed: of the draws.
        resamples: number of draws.

    Returns:
        In the order of the probes' and series' names.
    """
    readings: dict[tuple[str, str], list[tuple[list[float], list[float]]]] = {}
    for probes, changes in runs:
        for probe in probes:
            rows = [row for row in probe.at_stages if row.stage > 0 and row.stage in changes]
            for series in probe.series:
                pair = (
                    [row.values.get(series, math.nan) for row in rows],
                    [changes[row.stage] for row in rows],
                )
                readings.setdefault((probe.name, series), []).append(pair)
    return [
        ProbeCorrelation(
            name, series, correlate(pairs, (seed, zlib.crc32(f"{name}/{series}".encode())), resamples)
        )
        for (name, series), pairs in readings.items()
    ]
