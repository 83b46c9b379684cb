"""Which rows of the past stay in a buffer: reservoir sampling, and equal shares for every task."""

from collections.abc import Sequence
from typing import TypeVar

from lmmcl.data.batches.order import draw

Item = TypeVar("Item")


def reservoir(
    kept: Sequence[Item], seen: int, arriving: Sequence[Item], size: int, draws: Sequence[int]
) -> list[Item]:
    """Vitter's algorithm R: after n items, each has been kept with probability size / n (ACM TOMS 11, 1985).

    Args:
        kept: the buffer so far.
        seen: items that have passed before.
        arriving: items that pass now, in order.
        size: of the buffer, from 1.
        draws: for each arriving item, the t-th of all (from 1), a number uniform over 0 to t − 1.

    Returns:
        The buffer; the order of its items means nothing.
    """
    buffer = list(kept)
    for item, drawn in zip(arriving, draws, strict=True):
        if len(buffer) < size:
            buffer.append(item)
        elif drawn < size:
            buffer[drawn] = item
    return buffer


def reservoir_draws(seen: int, count: int, *key: int | str) -> list[int]:
    """The draws of `reservoir` for the items after ``seen`` ones."""
    words = draw(count, *key).tolist()
    return [word * t >> 64 for t, word in enumerate(words, seen + 1)]


def sample(items: Sequence[Item], count: int, *key: int | str) -> list[Item]:
    """A draw without replacement, in the order of the items; all of them where there are no more."""
    if count >= len(items):
        return list(items)
    order = draw(len(items), *key).argsort(kind="stable")[:count].tolist()
    return [items[place] for place in sorted(order)]


def equal_shares(available: Sequence[int], size: int) -> list[int]:
    """Shares of a buffer as equal as what is available allows; what does not divide goes to the first.

    Args:
        available: how many items each task can give.
        size: of the buffer.

    Returns:
        items of each task; their sum is ``size``, or all that is available.
    """
    shares = [0] * len(available)
    left = min(size, sum(available))
    while left:
        open_ones = [index for index, share in enumerate(shares) if share < available[index]]
        each, rest = divmod(left, len(open_ones))
        for place, index in enumerate(open_ones):
            more = min(each + (place < rest), available[index] - shares[index])
            shares[index] += more
            left -= more
    return shares
