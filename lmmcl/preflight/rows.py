"""Every row makes a prompt and an answer, its pictures can be read, and its scorer reads its gold answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lmmcl.preflight.finding import Finding, some
from lmmcl.preflight.scan import Scanned

CHECKS = ("rows", "pictures", "scorer")
_DROPPED = ("rows", "pictures")


def check_rows(scanned: Sequence[Scanned], dropping: bool = False) -> Iterator[Finding]:
    """The faults that the scan found, by check and kind; one line for a check without any.

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
        yield from some(found)
        if not found:
            yield Finding("ok", check, "", _fine(check, scanned))


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
