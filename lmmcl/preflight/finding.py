"""What a check says: a finding, and how many like it are worth printing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from lmmcl.errors import UserError

Level = Literal["ok", "warning", "failure"]
CHECKS = (
    "model",
    "trainer",
    "tasks",
    "rows",
    "pictures",
    "scorer",
    "mask",
    "length",
    "features",
    "recipe",
    "adapters",
    "memory",
    "disk",
    "steps",
    "time",
    "duplicates",
)
"""All checks, in the order in which they are shown."""
_VERDICTS = ("tasks", "rows", "pictures", "scorer")
"""Checks whose line says that nothing is wrong."""
SHOWN = 3
"""How many findings of one kind are spelt out."""
_PARTICULAR = re.compile(r"'[^']*'|\"[^\"]*\"|\S*[/\d]\S*")
"""What differs between two findings of one kind: quoted values, paths, numbers."""


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Args:
        level: ``ok``, ``warning`` (the run goes on) or ``failure`` (it would stop, or be worth nothing).
        check: which check says it.
        task: the task it is about; empty for the run as a whole.
        text: what was found; of a warning or failure also the way out.
    """

    level: Level
    check: str
    task: str
    text: str


def kind(text: str) -> str:
    """A text without what is particular to one row: two faults of one kind read the same."""
    return _PARTICULAR.sub("…", text)


def some(findings: Iterable[Finding], most: int = SHOWN) -> Iterator[Finding]:
    """The first few findings of every kind, and how many more there are: a thousand rows hide no other fault.

    Args:
        findings: any number.
        most: how many of one kind are kept, from 1.
    """
    groups: dict[tuple[str, str, str, str], list[Finding]] = {}
    for finding in findings:
        key = (finding.level, finding.check, finding.task, kind(finding.text))
        groups.setdefault(key, []).append(finding)
    for group in groups.values():
        yield from group[:most]
        if len(group) > most:
            first = group[0]
            yield Finding(
                first.level, first.check, first.task, f"... and {len(group) - most:,} more like these"
            )


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Findings by check, in the order of `CHECKS`; a check that found something wrong is not fine as well.

    Lines about single tasks and counts stay: they say what holds, not that all is well.
    """
    found = sorted(findings, key=lambda finding: CHECKS.index(finding.check))
    wrong = {finding.check for finding in found if finding.level != "ok"}
    return [one for one in found if one.level != "ok" or one.check not in _VERDICTS or one.check not in wrong]


def failed(findings: Iterable[Finding]) -> bool:
    """Whether a run would fail."""
    return any(finding.level == "failure" for finding in findings)


def refuse(findings: Iterable[Finding]) -> None:
    """Stops where a check failed.

    Raises:
        UserError: the first failure; how many more there are, and the command that shows them.
    """
    failures = [finding for finding in findings if finding.level == "failure"]
    if failures:
        more = f" ({len(failures) - 1} more: lmmcl preflight shows all.)" if len(failures) > 1 else ""
        raise UserError(failures[0].text + more)
