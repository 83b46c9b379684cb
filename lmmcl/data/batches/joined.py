"""Rows that join those of a task in every optimizer step: replayed ones."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
from typing_extensions import override

from lmmcl.data.batches.mixing import interleaved
from lmmcl.data.batches.order import draw
from lmmcl.data.row import Row
from lmmcl.data.row_view import MadeRows
from lmmcl.errors import UserError

JOINED = "joined"
"""The entry of ``Row.extras`` and ``Batch.extras`` that says which joined set a row is from, from 1; 0 is the task."""


@dataclass(frozen=True)
class JoinedRows:
    """A set of rows of which some join every optimizer step of a task, beside the ``batch_size`` rows of the task.

    Args:
        name: begins the rows' ids and seeds their order; no other set of the run has it.
        rows: at least one.
        per_step: rows that join a step, over all processes, from 1 to all.
        taught: whether the answer loss counts them as it counts the task's. If not, nothing looks at them but the
            ``token_loss`` of the mitigation that joined them.
    """

    name: str
    rows: Sequence[Row]
    per_step: int
    taught: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.per_step <= len(self.rows):
            raise UserError(
                f"{self.name}: rows that join a step must be between 1 and all {len(self.rows)}, got {self.per_step}."
            )

    def of_step(self, step: int, *key: int | str) -> list[int]:
        """Positions of the rows that join a step of a task.

        The rows are met in shuffled turns, each once in a turn, whatever the epochs: all equally often.

        Args:
            step: of the task, over its epochs, from 0.
            key: what the order depends on.
        """
        size = len(self.rows)
        first, last = step * self.per_step, (step + 1) * self.per_step
        found: list[int] = []
        for turn in range(first // size, (last - 1) // size + 1):
            order = np.argsort(draw(size, *key, "joined", self.name, turn), kind="stable")
            found += order[max(first - turn * size, 0) : last - turn * size].tolist()
        return found


class RowsOfStep(MadeRows):
    """The rows of a task, and behind them those of the sets that join it; each knows its set.

    Args:
        rows: of the task.
        joined: the sets.
    """

    def __init__(self, rows: Sequence[Row], joined: Sequence[JoinedRows]) -> None:
        self._rows, self._joined = rows, joined
        self.starts = [0, *accumulate(len(each) for each in (rows, *(one.rows for one in joined)))]

    def joined_at(self, step: int, *key: int | str) -> list[int]:
        """Positions of all rows that join a step of the task, set after set."""
        starts = self.starts[1:]
        return [
            start + place
            for start, one in zip(starts, self._joined, strict=False)
            for place in one.of_step(step, *key)
        ]

    @override
    def __len__(self) -> int:
        return self.starts[-1]

    @override
    def make(self, index: int) -> Row:
        part = bisect_right(self.starts, index) - 1
        if part == 0:
            row = self._rows[index]
        else:
            one = self._joined[part - 1]
            row = one.rows[index - self.starts[part]]
            row = replace(row, id=f"{one.name}/{row.id}")
        return replace(row, extras={**row.extras, JOINED: part})


def join_windows(
    windows: Sequence[Sequence[int]],
    rows: RowsOfStep,
    lengths: Sequence[int] | None,
    first_step: int,
    *key: int | str,
) -> list[list[int]]:
    """Adds the positions of joined rows to the windows of an epoch.

    Args:
        windows: positions of the task's rows.
        rows: what the positions of the result point to.
        lengths: of all rows, the task's first: a window is then sorted by it, the longest first; None: the joined
            rows are spread evenly over the window, so that every micro-batch gets its share.
        first_step: of the task that the first window is.
        key: what the draw of joined rows depends on.
    """
    ended = []
    for step, window in enumerate(windows, first_step):
        joined = rows.joined_at(step, *key)
        places = [*window, *joined]
        if lengths is not None:
            places.sort(key=lambda place: -lengths[place])
        else:
            slots = interleaved([len(window), len(joined)])
            both = (iter(window), iter(joined))
            places = [next(both[slot]) for slot in slots]
        ended.append(places)
    return ended
