"""Rows of several streams in one epoch, at fixed shares: what is mixed, and in which order it is met."""

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from lmmcl.data.batches.order import MEGA_BATCH, draw
from lmmcl.data.row import Row
from lmmcl.data.row_view import MadeRows

Places = NDArray[np.int64]


class MixedRows(MadeRows):
    """Rows of several streams as one sequence that knows which stream each is from.

    The loader deals them so that every optimizer step holds the streams at their shares (`mixed_windows`). It keeps
    positions only: rows are made when they are asked for.

    Args:
        parts: the rows of every stream.
        streams: (rows,) the part of each row of the sequence.
        places: (rows,) its position in that part.
        turns: (rows,) how often the stream had begun again when it comes to this row, from 0.
    """

    def __init__(
        self, parts: Sequence[Sequence[Row]], streams: Places, places: Places, turns: Places
    ) -> None:
        self.parts, self.streams, self.places, self.turns = parts, streams, places, turns

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Self:
        """The rows themselves where they are mixed already, else as the only stream."""
        if isinstance(rows, cls):
            return rows
        none = np.zeros(len(rows), np.int64)
        return cls([rows], none, np.arange(len(rows)), none)

    @override
    def __len__(self) -> int:
        return len(self.streams)

    @override
    def make(self, index: int) -> Row:
        return self.parts[int(self.streams[index])][int(self.places[index])]


def mixed_counts(own: int, other: int, ratio: float) -> tuple[int, int]:
    """How many rows of two sets an epoch holds, so that both are used up and the other's share is the ratio.

    The one that is used up first begins again until the other is, too.

    Args:
        own: rows of the task, from 1.
        other: rows of the other set, from 1.
        ratio: share of the other set, in (0, 1).

    Returns:
        rows of each in the epoch, the share right to half a row.
    """
    wanted = round(own * ratio / (1 - ratio))
    if wanted >= other:
        return own, max(1, wanted)
    return max(own, round(other * (1 - ratio) / ratio)), other


def mix(
    rows: Sequence[Row], other: Sequence[Row], ratio: float, limit: int | None, *key: int | str
) -> MixedRows:
    """Adds another set to a task's rows, at a share, until both are used up.

    Args:
        rows: of the task, at least one; mixed ones keep their streams.
        other: the other set, at least one row.
        ratio: share of the other set in the mixture, in (0, 1).
        limit: use a draw of so many of its rows; None: of all.
        key: what draws depend on.
    """
    own = MixedRows.of(rows)
    drawn = _drawn(len(other), len(other) if limit is None else min(limit, len(other)), *key, "limit")
    count, joined = mixed_counts(len(own), len(drawn), ratio)
    again, turn = _repeated(len(own), count, *key, "own")
    more, turn_of_more = _repeated(len(drawn), joined, *key, "other")
    turns_inside = 1 + int(own.turns.max())
    return MixedRows(
        [*own.parts, other],
        np.concatenate([own.streams[again], np.full(joined, len(own.parts))]),
        np.concatenate([own.places[again], drawn[more]]),
        np.concatenate([turn * turns_inside + own.turns[again], turn_of_more]),
    )


def interleaved(counts: Sequence[int]) -> Places:
    """The stream at every position when streams of these sizes are spread evenly over each other.

    The j-th row of a stream of n stands where the share (j + 1/2) / n of the whole has passed. With two streams,
    every run of positions from the start holds each at its share to within one row.
    """
    streams = np.repeat(np.arange(len(counts)), counts)
    times = np.concatenate([(np.arange(count) + 0.5) / max(count, 1) for count in counts])
    return streams[np.argsort(times, kind="stable")]


def mixed_windows(
    rows: MixedRows,
    lengths: Sequence[int],
    batch_size: int,
    seed: int,
    task: int,
    epoch: int,
    *,
    drop_last: bool = False,
    group_by_length: bool = True,
) -> list[list[int]]:
    """Deals mixed rows into windows as `order.windows` does, each window with every stream at its share.

    Each stream is shuffled by itself, turn by turn. With grouping, rows of a stream are sorted by length among
    themselves in runs of windows, and the windows are shuffled: a window of two streams holds like lengths of each.
    The share holds for every run of steps from the first on, to within one row (of two streams).

    Returns:
        The windows in the order of training, each a list of row positions, the longest first when grouped.
    """
    words = draw(len(rows), seed, task, epoch, "order")
    members = [np.flatnonzero(rows.streams == stream) for stream in range(len(rows.parts))]
    orders = [mine[np.lexsort((words[mine], rows.turns[mine]))] for mine in members]
    slots = interleaved([len(mine) for mine in members])
    full = len(rows) // batch_size
    if not group_by_length:
        dealt = np.empty(len(rows), np.int64)
        for stream, order in enumerate(orders):
            dealt[slots == stream] = order
        whole = [window.tolist() for window in dealt[: full * batch_size].reshape(full, batch_size)]
        rest = dealt[full * batch_size :].tolist()
        return whole if drop_last or not rest else [*whole, rest]
    length = np.asarray(lengths)
    quota = np.stack(
        [(slots[: full * batch_size].reshape(full, batch_size) == s).sum(1) for s in range(len(orders))],
        axis=1,
    )
    turn = np.argsort(draw(full, seed, task, epoch, "windows"), kind="stable")
    taken = quota[np.argsort(turn)]  # window i of those taken is trained as the one whose turn is i
    cursors = [0] * len(orders)
    windows: list[Places] = []
    mega = max(1, min(MEGA_BATCH, full // 4))
    for start in range(0, full, mega):
        pieces: list[list[Places]] = []
        for stream, order in enumerate(orders):
            of_window = taken[start : start + mega, stream]
            run = order[cursors[stream] : cursors[stream] + int(of_window.sum())]
            cursors[stream] += len(run)
            run = run[np.argsort(-length[run], kind="stable")]
            pieces.append(np.split(run, np.cumsum(of_window)[:-1]))
        windows += [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
    in_turn = [windows[index] for index in turn]
    left = np.concatenate([order[cursor:] for order, cursor in zip(orders, cursors, strict=True)])
    ended = in_turn if drop_last or not len(left) else [*in_turn, left]
    return [window[np.argsort(-length[window], kind="stable")].tolist() for window in ended]


def _drawn(size: int, count: int, *key: int | str) -> Places:
    """Positions of a draw without replacement, in rising order."""
    if count == size:
        return np.arange(size)
    return np.sort(np.argsort(draw(size, *key), kind="stable")[:count])


def _repeated(size: int, count: int, *key: int | str) -> tuple[Places, Places]:
    """``count`` of ``size`` positions, each equally often but for a drawn last turn; and the turn of each."""
    turns, rest = divmod(count, size)
    places = np.concatenate(
        [*([np.arange(size)] * turns), _drawn(size, rest, *key) if rest else np.arange(0)]
    )
    return places, np.repeat(np.arange(turns + 1), [size] * turns + [rest])
