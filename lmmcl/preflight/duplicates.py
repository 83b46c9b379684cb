"""What stands in training and in evaluation, or twice in training, by what rows ask and by what their pictures hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from lmmcl.preflight.finding import Finding, some
from lmmcl.preflight.scan import Scanned, Seen

_Place = tuple[str, str, Seen]
"""Task, part and row."""


def check_duplicates(scanned: Sequence[Scanned]) -> Iterator[Finding]:
    """Rows and pictures that training and evaluation share, over all tasks of the run.

    The same question about the same pictures is a failure, the same picture under another question a warning (many
    benchmarks ask several questions of a picture); the same row twice in training is a warning. Pictures are compared
    by the bytes of their files, and by their pixels where they were decoded.
    """
    trained = [place for place in _places(scanned) if place[1] == "train"]
    measured = [place for place in _places(scanned) if place[1] != "train"]
    found = [*_shared_rows(trained, measured), *_shared_pictures(trained, measured), *_twice(trained)]
    yield from some(found)
    if not found:
        unknown = sum(not all(row.marks) for _, _, row in (*trained, *measured))
        known = [sum(all(row.marks) for _, _, row in places) for places in (trained, measured)]
        text = (
            f"{known[0]:,} training rows share no question and no picture with {known[1]:,} evaluation rows"
        )
        left = (
            f"; {unknown:,} more were not compared, their pictures are made by functions (--decode all)"
            if unknown
            else ""
        )
        yield Finding("ok", "duplicates", "", text + left)


def _places(scanned: Iterable[Scanned]) -> Iterator[_Place]:
    for part in scanned:
        for row in part.seen:
            if row.question:
                yield part.part.task.name, part.part.part, row


def _keys(row: Seen) -> Iterator[tuple[bytes, ...]]:
    """A row's question with its pictures, as files and as pixels; nothing where a picture was not looked at."""
    if all(row.marks):
        yield (row.question, *(marks[0] for marks in row.marks))
        if row.marks and all(len(marks) > 1 for marks in row.marks):
            yield (row.question, *(marks[1] for marks in row.marks))


def _shared_rows(trained: Sequence[_Place], measured: Sequence[_Place]) -> Iterator[Finding]:
    known = {key: place for place in trained for key in _keys(place[2])}
    for task, part, row in measured:
        if (twin := next((known[key] for key in _keys(row) if key in known), None)) is not None:
            yield Finding(
                "failure",
                "duplicates",
                task,
                f"row {row.id!r} ({part}) asks the same of the same pictures as row {twin[2].id!r} of {twin[0]} "
                "(train); remove one, or its score measures what was learned by heart.",
            )


def _shared_pictures(trained: Sequence[_Place], measured: Sequence[_Place]) -> Iterator[Finding]:
    """One line for each pair of tasks: pictures, of rows that are not the same, on both sides."""
    asked = {key for place in trained for key in _keys(place[2])}
    known = {mark: place for place in trained for marks in place[2].marks for mark in marks}
    pairs: dict[tuple[str, str, str], list[tuple[Seen, Seen]]] = {}
    for task, part, row in measured:
        if any(key in asked for key in _keys(row)):
            continue
        twin = next((known[mark] for marks in row.marks for mark in marks if mark in known), None)
        if twin is not None:
            pairs.setdefault((task, part, twin[0]), []).append((row, twin[2]))
    for (task, part, other), rows in pairs.items():
        example = f"row {rows[0][0].id!r} and row {rows[0][1].id!r}"
        yield Finding(
            "warning",
            "duplicates",
            task,
            f"{len(rows):,} {part} {'row shows' if len(rows) == 1 else 'rows show'} a picture that {other} trains on, "
            f"under another question ({example}); split by picture to measure unseen ones.",
        )


def _twice(trained: Sequence[_Place]) -> Iterator[Finding]:
    """One line for each task that trains on a row twice, and one for answers that contradict each other."""
    known: dict[tuple[object, ...], Seen] = {}
    same: dict[str, list[tuple[Seen, Seen]]] = {}
    other: dict[str, list[tuple[Seen, Seen]]] = {}
    for task, _, row in trained:
        for key in list(_keys(row))[:1]:
            twin = known.setdefault((task, *key), row)
            if twin is not row:
                (same if twin.answer == row.answer else other).setdefault(task, []).append((twin, row))
    for pairs, one, several in (
        (same, "row stands twice", "rows stand twice"),
        (other, "row asks the same and answers otherwise", "rows ask the same and answer otherwise"),
    ):
        for task, rows in pairs.items():
            example = f"row {rows[0][0].id!r} and row {rows[0][1].id!r}"
            what = one if len(rows) == 1 else several
            yield Finding("warning", "duplicates", task, f"{len(rows):,} training {what} ({example}).")
