"""Every row makes a prompt and an answer, its pictures can be read, and its scorer reads its gold answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lmmcl.preflight.finding import Finding, some
from lmmcl.preflight.scan import Scanned

CHECKS = ("rows", "pictures", "scorer")
_DROPPED = ("rows", "pictures")


def check_rows(scanned: Sequence[Scanned], dropping: bool = False) -> Iterator[Finding]:
    """The faults that the scan found, by check and kind, and tasks without pictures; one line for a check without any.

    Args:
        scanned: all parts.
        dropping: ``on_bad_row: drop`` leaves out rows and pictures that break, so that they only warn.
    """
    for check in CHECKS:
        found = [
            Finding("warning" if dropping and check in _DROPPED else level, check, part.part.task.name, text)
            for part in scanned
            for row in part.seen
            for which, level, text in row.faults
            if which == check
        ]
        if check == "pictures":
            found += _blind(scanned)
        yield from some(found)
        if not found:
            yield Finding("ok", check, "", _fine(check, scanned))


def _blind(scanned: Sequence[Scanned]) -> Iterator[Finding]:
    """A warning for each task of whose rows none has a picture."""
    for name in dict.fromkeys(part.part.task.name for part in scanned):
        rows = [row for part in scanned if part.part.task.name == name for row in part.seen]
        broken = any(check == "pictures" for row in rows for check, _, _ in row.faults)
        if any(row.sound for row in rows) and not broken and not any(row.sizes for row in rows):
            text = (
                f"none of the {len(rows):,} rows that were read has a picture; name their column in columns: "
            )
            yield Finding("warning", "pictures", name, text + "{image: ...}, unless the task has none.")


def _fine(check: str, scanned: Sequence[Scanned]) -> str:
    rows = [row for part in scanned for row in part.seen]
    if check == "pictures":
        pictures = sum(len(row.sizes) for row in rows)
        decoded = sum(row.decoded for row in rows)
        later = sum(size is None for row in rows for size in row.sizes)
        drawn = f", {later:,} left to the functions that make them" if later else ""
        opened = f"{decoded:,} decoded, {pictures - decoded - later:,} opened by their headers"
        return f"{pictures:,} pictures: {opened}{drawn}"
    if check == "scorer":
        return f"{len(rows):,} answers: each scores 1 against its own gold by its task's scorer"
    tasks = len({part.part.task.name for part in scanned})
    return f"{len(rows):,} rows of {tasks} tasks: each makes a prompt and an answer"
