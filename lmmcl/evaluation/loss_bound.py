"""How much weights may have lost: an interval that a few rows whose answers did not change cannot make empty."""

from collections.abc import Mapping, Sequence

import numpy as np

from lmmcl.evaluation.statistics import Scores, members_of
from lmmcl.evaluation.summary import Estimate

NOTHING_LOST = Estimate(0.0, 0.0, 0.0)
"""Of weights that are the base model's: no rows are needed to know it."""
FEW = 30
"""Rows of a task below which a reader is told."""
_DRAWS = 10_000
_OUTSIDE = 0.025
_AT_ONCE = 256

Groups = Mapping[str, Sequence[str] | None]


def held_out_loss(
    base: Mapping[str, Sequence[float]], now: Mapping[str, Sequence[float]], groups: Groups | None = None
) -> Estimate:
    """Mean over tasks of how far their scores fell below the base model's, with a 95 % interval for new rows.

    Each end is the bound of Gaffke (2005, Mathematical Methods of Statistics 14; found again by Learned-Miller and
    Thomas 2019, arXiv 1905.06208): the 97.5 % quantile, or the other, of Σ w_i l_i, where l_i is what row i lost, one
    row more lost (or gained) all that a row can, and w is uniform on the simplex. Of one task whose answers are right
    or wrong and never gain it is the bound of Clopper and Pearson: n unchanged answers leave 1 − 0.025^(1/n), about
    3.7/n. A percentile bootstrap of them leaves nothing, however few they are; with many rows the two agree. Rows of
    several tasks count as much as they do in the mean, and are drawn together.

    What it guarantees: of one model that was named before its rows were seen, ``high`` falls below the true loss in at
    most 2.5 % of draws of the rows. For right and wrong without gains in one task this is a theorem; for other bounded
    numbers it is a conjecture of both papers, and held in simulations with gains, with several tasks and with tasks of
    unlike sizes. ``high`` at or below a budget is then a test of "it lost more" at level 2.5 %, as in trials of
    non-inferiority.

    A choice among several models is covered only where their order was fixed and the first one outside ended the walk
    (fixed sequence: Maurer, Hothorn and Lehmacher 1995; Angelopoulos et al. 2021, arXiv 2110.01052): from the mildest
    on, an error needs the first one that is truly outside to pass, and 2.5 % holds for the walk without a correction.
    The best of all that pass, in no such order, is not covered; measure it on rows that chose nothing.

    Args:
        base: by task, the scores from 0 to 1 of its rows under the base model; at least one row a task.
        now: the same rows under other weights.
        groups: by task, the group of every row, of tasks whose score is a mean over groups.

    Returns:
        in points from -100 to 100; negative where they gained.
    """
    shares = _shares({task: len(rows) for task, rows in base.items()}, groups)
    share = np.concatenate([shares[task] for task in base])
    lost = 100.0 * np.concatenate([np.asarray(base[t], float) - np.asarray(now[t], float) for t in base])
    values, counts = np.unique(len(share) * share * lost, return_counts=True)
    worst = 100.0 * len(share) * float(share.max())
    generator = np.random.default_rng(0)
    total, mass = np.zeros(_DRAWS), np.zeros(_DRAWS)
    for start in range(0, len(values), _AT_ONCE):  # uniform on the simplex: exponentials over their sum
        part = slice(start, start + _AT_ONCE)
        drawn = generator.standard_gamma(counts[part], size=(_DRAWS, len(values[part])))
        total += drawn @ values[part]
        mass += drawn.sum(axis=1)
    more = -np.log1p(
        -(np.arange(_DRAWS) + 0.5) / _DRAWS
    )  # exponential, evenly spread: with few losses it is all
    low = float(np.quantile((total - worst * more) / (mass + more), _OUTSIDE))
    high = float(np.quantile((total + worst * more) / (mass + more), 1.0 - _OUTSIDE))
    value = float(share @ lost)
    return Estimate(value, max(-100.0, min(low, value)), min(100.0, max(high, value)))


def least_bound(rows: Mapping[str, int], groups: Groups | None = None) -> float:
    """The upper end of `held_out_loss` if no answer changed, in points: less cannot be shown with these rows.

    Args:
        rows: number of rows by task.
        groups: as there.
    """
    share: Scores = np.concatenate(list(_shares(rows, groups).values()))
    n = len(share)
    return min(100.0, 100.0 * n * float(share.max()) * float(1.0 - _OUTSIDE ** (1.0 / n)))


def few_rows(rows: Mapping[str, int], budget: float, groups: Groups | None = None) -> str | None:
    """What to tell of rows that are few for a budget; None where they will do.

    Args:
        rows: number of rows by task.
        budget: points of loss that are allowed.
        groups: as in `held_out_loss`.
    """
    if budget >= 100.0:
        return None
    few = [f"{task} ({n})" for task, n in rows.items() if n < FEW]
    least = least_bound(rows, groups)
    told = [f"fewer than {FEW} rows for dev: {', '.join(few)}"] if few else []
    if few or least > budget:
        told.append(f"even answers that do not change leave a loss of up to {least:.1f} points possible")
    if least > budget:
        told.append(f"so nothing but the base model is shown to be within {budget:g}")
    return f"{', '.join(told)}; give them more rows for dev" if told else None


def _shares(rows: Mapping[str, int], groups: Groups | None) -> dict[str, Scores]:
    """How much each row counts in the mean over tasks; all together 1."""
    found: dict[str, Scores] = {}
    for task, n in rows.items():
        of = (groups or {}).get(task)
        members = [np.arange(n)] if of is None else members_of(of)
        found[task] = np.empty(n)
        for group in members:
            found[task][group] = 1.0 / (len(rows) * len(members) * len(group))
    return found
