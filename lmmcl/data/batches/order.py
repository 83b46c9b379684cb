"""In which order an epoch meets its rows: windows of one optimizer step each, drawn from counters."""

import hashlib
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

MEGA_BATCH = 50
"""Windows that are sorted by length together; transformers' length-grouped sampler takes as many."""


def draw(count: int, *key: int | str) -> NDArray[np.uint64]:
    """Random 64-bit words that depend on a key and on nothing else.

    Raw words of the Philox counter generator: numpy promises that they never change between its versions,
    which it does not promise for its shuffles. Sorting by them shuffles.

    Args:
        count: how many words, from 0.
        key: what they are drawn for, such as seed, task and epoch; numbers from 0, and texts.

    Returns:
        (count,) words.
    """
    entropy = [
        int.from_bytes(hashlib.sha256(part.encode()).digest()) if isinstance(part, str) else part
        for part in key
    ]
    return np.random.Philox(np.random.SeedSequence(entropy)).random_raw(count)


def subset(strata: Sequence[Hashable], count: int, *key: int | str) -> list[int]:
    """Draws a fixed subset in which every stratum keeps its share (largest remainders).

    Args:
        strata: the stratum of every element.
        count: size of the subset; all elements are kept where there are no more.
        key: what the draw depends on, as in `draw`.

    Returns:
        The chosen positions in rising order.
    """
    total = len(strata)
    if count >= total:
        return list(range(total))
    members: dict[Hashable, list[int]] = {}
    for position in np.argsort(draw(total, *key), kind="stable").tolist():
        members.setdefault(strata[position], []).append(position)
    groups = sorted(members.values(), key=min)
    quota = [len(group) * count // total for group in groups]
    by_remainder = sorted(range(len(groups)), key=lambda index: -(len(groups[index]) * count % total))
    for index in by_remainder[: count - sum(quota)]:
        quota[index] += 1
    return sorted(position for group, share in zip(groups, quota, strict=True) for position in group[:share])


def windows(
    lengths: Sequence[int],
    batch_size: int,
    seed: int,
    task: int,
    epoch: int,
    *,
    drop_last: bool = False,
    group_by_length: bool = True,
) -> list[list[int]]:
    """Deals the rows of one epoch into accumulation windows, each row once.

    With grouping, runs of up to `MEGA_BATCH` windows of the shuffled rows are sorted by length and cut into
    windows, and then the windows are shuffled, so that a window pads little and an epoch still meets lengths
    in random order. The rows that do not fill a window are drawn before sorting and come last, as a short
    window.

    Args:
        lengths: how long each row is, in any cheap measure.
        batch_size: rows of a window, from 1.
        seed: the run's seed, from 0.
        task: position of the task in the sequence, from 0.
        epoch: epoch inside the task, from 0.
        drop_last: leave the short window out.
        group_by_length: sort as described; otherwise the order is a plain shuffle.

    Returns:
        The windows in the order of training, each a list of row positions, the longest first when grouped.
    """
    order = np.argsort(draw(len(lengths), seed, task, epoch, "order"), kind="stable")
    full = len(order) // batch_size
    whole, rest = order[: full * batch_size], order[full * batch_size :]
    if group_by_length and full:
        length = np.asarray(lengths)
        # A quarter of the epoch at most: sorting all of it would make every epoch's windows nearly the same.
        mega = batch_size * max(1, min(MEGA_BATCH, full // 4))
        runs = [whole[start : start + mega] for start in range(0, len(whole), mega)]
        whole = np.concatenate([run[np.argsort(-length[run], kind="stable")] for run in runs])
        rest = rest[np.argsort(-length[rest], kind="stable")]
        turn = np.argsort(draw(full, seed, task, epoch, "windows"), kind="stable")
        whole = whole.reshape(full, batch_size)[turn].reshape(-1)
    dealt = [window.tolist() for window in whole.reshape(full, batch_size)]
    return dealt if drop_last or not len(rest) else [*dealt, rest.tolist()]


def deal(window: Sequence[int], rank: int, world: int, accumulate: int) -> list[list[int]]:
    """Splits a window into one process's micro-batches, evenly and the same way on every process.

    The window is cut into ``world * accumulate`` slices of nearly one size; micro-batch j of process r is
    slice ``j * world + r``, so that neighbours in length meet on the processes at the same time.

    Args:
        window: row positions.
        rank: this process, from 0.
        world: number of processes.
        accumulate: micro-batches per process.

    Returns:
        ``accumulate`` lists; some are empty when the window is shorter than there are slices.
    """
    slices = world * accumulate
    cuts = [len(window) * index // slices for index in range(slices + 1)]
    if len(window) < slices:  # full slices first: the processes then pause together
        cuts = [min(index, len(window)) for index in range(slices + 1)]
    mine = range(rank, slices, world)
    return [list(window[cuts[index] : cuts[index + 1]]) for index in mine]
