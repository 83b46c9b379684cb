"""95 % intervals by a paired bootstrap over examples."""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from lmmcl.evaluation.statistics import Scores

RESAMPLES = 2000
_AT_ONCE = 1 << 22


def resampled_means(scores: Scores, seed: Sequence[int], resamples: int = RESAMPLES) -> Scores:
    """Mean scores of one task after every stage, over examples drawn with replacement.

    All stages share a draw (paired): what varies is which examples were asked, not which stage was lucky with
    them.

    Args:
        scores: (stages, examples), 0 to 100.
        seed: numbers that name the stream.
        resamples: number of draws.

    Returns:
        (resamples, stages).
    """
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


def resampled_scores(
    scores: Mapping[str, Scores], tasks: Sequence[str], seed: int = 0, resamples: int = RESAMPLES
) -> Scores:
    """The score matrix of every resample.

    Each task has its own stream, keyed by its name: another task beside it changes nothing.

    Args:
        scores: task name -> (stages, examples), 0 to 100.
        tasks: the columns.
        seed: of the draws.
        resamples: number of draws.

    Returns:
        (resamples, stages, tasks).
    """
    columns = [resampled_means(scores[task], (seed, zlib.crc32(task.encode())), resamples) for task in tasks]
    return np.stack(columns, axis=-1)


def interval(resampled: Scores, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of a statistic over resamples; nan where it is not defined."""
    outside = (1.0 - level) / 2.0
    low, high = np.quantile(resampled, [outside, 1.0 - outside])
    return float(low), float(high)
