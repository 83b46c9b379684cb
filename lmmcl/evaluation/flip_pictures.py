"""Keeps the question and a small picture of some flipped answers in the run, which outlives its data."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL.Image import Image

from lmmcl.data.pictures.picture import open_picture
from lmmcl.data.row import Row
from lmmcl.errors import UserError
from lmmcl.evaluation.flipped_examples import FLIPS, QUESTIONS, FlippedExample, picture_name, read_flips
from lmmcl.run.checkpoint import as_json, naming_disk_errors, write_atomically

LOST, GAINED = 8, 4
"""So many of each task are kept; critical ones come first."""
_LONGEST = 320
_QUALITY = 85


def keep_flips(run: Path, rows: Mapping[str, Sequence[Row]]) -> None:
    """Writes ``flips/<task>/``: ``questions.json`` and a JPEG of each row that `read_flips` then finds.

    The same run gives the same bytes. Call it on one process, with the matrix written.

    Args:
        run: its folder.
        rows: task name -> the rows it was measured on; tasks that are not in it are passed over.
    """
    for task, flipped in _chosen(run, list(rows)).items():
        wanted = {one.id for one in flipped}
        found = {row.id: row for row in rows[task] if row.id in wanted}
        folder = run / FLIPS / task
        with naming_disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        for row in found.values():
            if row.images:
                try:
                    data = small_jpeg(open_picture(row.images[0], f"{task}: row {row.id}"))
                except UserError as error:
                    warnings.warn(f"{folder}: no picture of row {row.id}: {error}", stacklevel=2)
                    continue
                write_atomically(folder / picture_name(row.id), data)
        write_atomically(folder / QUESTIONS, as_json({row.id: question(row) for row in found.values()}))


def _chosen(run: Path, tasks: Sequence[str]) -> dict[str, list[FlippedExample]]:
    by_task: dict[str, list[FlippedExample]] = {}
    kept: dict[tuple[str, str], int] = {}
    for one in read_flips(run, tasks):
        place = one.task, one.direction
        kept[place] = kept.get(place, 0) + 1
        if kept[place] <= (LOST if one.direction == "lost" else GAINED):
            by_task.setdefault(one.task, []).append(one)
    return by_task


def question(row: Row) -> str:
    """What the user last asked in a row, without its pictures."""
    turns = [message for message in row.messages if message["role"] == "user"]
    parts = turns[-1]["content"] if turns else []
    return "\n".join(part["text"] for part in parts if part["type"] == "text").strip()


def small_jpeg(picture: Image) -> bytes:
    """A copy of at most 320 pixels a side; the same picture gives the same bytes."""
    small = picture.copy()
    small.thumbnail((_LONGEST, _LONGEST))
    data = io.BytesIO()
    small.save(data, format="JPEG", quality=_QUALITY)
    return data.getvalue()
