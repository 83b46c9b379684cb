"""95 % intervals by a paired bootstrap over examples."""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from lmmcl.evaluation.statistics import Scores, members_of

RESAMPLES = 2000
_AT_ONCE = 1 << 22


def resampled_means(
    scores: Scores,
    seed: Sequence[int],
    resamples: int = RESAMPLES,
    groups: Sequence[str] | None = None,
    shares: int = 0,
) -> Scores:
    """Scores of one task after every stage, over examples drawn with replacement.

    All stages share a draw (paired): what varies is which examples were asked, not which stage was lucky with
    them. Where the score is a mean over groups, so many examples are drawn in every group as it has: a draw leaves no
    group out, whatever their sizes.

    Args:
        scores: (stages, examples), 0 to 100.
        seed: numbers that name the stream.
        resamples: number of draws.
        groups: of every example, where the score is a mean over groups.
        shares: so many of the last rows are no scores but marks of examples, whose mean is over all examples.

    Returns:
        (resamples, stages).
    """
    if groups is not None:
        return _grouped_means(scores, seed, resamples, groups, shares)
    generator = np.random.default_rng(list(seed))
    n = scores.shape[1]
    even = np.full(n, 1.0 / n)
    block = max(1, _AT_ONCE // n)
    means = []
    for start in range(0, resamples, block):
        # How often each example is drawn, instead of which: a matrix product takes the place of a gather.
        counts = generator.multinomial(n, even, size=min(block, resamples - start))
        means.append(counts @ scores.T / n)
    return np.concatenate(means)


def _grouped_means(
    scores: Scores, seed: Sequence[int], resamples: int, groups: Sequence[str], shares: int
) -> Scores:
    """See `resampled_means`.

    A draw of n from n varies less than n examples do, by (n − 1)/n; in a small group that is much, and deviations from
    the group's mean are scaled back (Rao and Wu 1988, Journal of the American Statistical Association 83). A group of
    one example tells nothing of its spread and adds none.
    """
    members = members_of(groups)
    found = np.zeros((resamples, len(scores)))
    for place, group in enumerate(members):
        means = scores[:, group].mean(axis=1)
        drawn = resampled_means(scores[:, group], (*seed, place), resamples) - means
        scale = np.full(len(scores), np.sqrt(len(group) / max(1, len(group) - 1)))
        weight = np.full(len(scores), 1.0 / len(members))
        marks = slice(len(scores) - shares, None)
        scale[marks], weight[marks] = 1.0, len(group) / scores.shape[1]
        found += weight * (means + scale * drawn)
    return found


def resampled_scores(
    scores: Mapping[str, Scores],
    tasks: Sequence[str],
    seed: int = 0,
    resamples: int = RESAMPLES,
    groups: Mapping[str, Sequence[str] | None] | None = None,
    shares: int = 0,
) -> Scores:
    """The score matrix of every resample.

    Each task has its own stream, keyed by its name: another task beside it changes nothing.

    Args:
        scores: task name -> (stages, examples), 0 to 100.
        tasks: the columns.
        seed: of the draws.
        resamples: number of draws.
        groups: task name -> group of every example, of tasks whose score is a mean over groups.
        shares: see `resampled_means`.

    Returns:
        (resamples, stages, tasks).
    """
    held = groups or {}
    columns = [
        resampled_means(scores[task], (seed, zlib.crc32(task.encode())), resamples, held.get(task), shares)
        for task in tasks
    ]
    return np.stack(columns, axis=-1)


def interval(resampled: Scores, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of a statistic over resamples; nan where it is not defined."""
    outside = (1.0 - level) / 2.0
    low, high = np.quantile(resampled, [outside, 1.0 - outside])
    return float(low), float(high)
