"""What a preflight looks like: the first rows with their masks, and one table of findings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lmmcl.preflight.finding import Finding, Level
from lmmcl.preflight.mask import Piece

_STYLES: dict[Level, tuple[str, str]] = {
    "ok": ("ok", "green"),
    "warning": ("warning", "yellow"),
    "failure": ("FAILURE", "bold red"),
}
_TEXTS: dict[Level, str] = {"ok": "", "warning": "yellow", "failure": "red"}
_TASK_WIDTH = 16
_OPEN, _CLOSE = "\u2039", "\u203a"
"""Single guillemets: around what is no text of the sample."""


def sample(title: str, pieces: Sequence[Piece]) -> RenderableType:
    """One training sample: the prompt grey, image tokens as a count, what is learned green and in brackets.

    Args:
        title: names task and row.
        pieces: of the sample, see `lmmcl.preflight.mask.pieces`.
    """
    text = Text()
    for piece in pieces:
        if piece.kind == "image":
            text.append(
                f"{_OPEN}{piece.tokens} image token{'s' if piece.tokens > 1 else ''}{_CLOSE}", style="cyan"
            )
        elif piece.kind == "answer":
            text.append("⟦", style="dim").append(piece.text, style="bold green").append("⟧", style="dim")
        else:
            text.append(piece.text, style="bright_black")
    return Group(Text(title, style="bold"), text, Text(""))


def findings_table(findings: Iterable[Finding]) -> RenderableType:
    """All findings, by check; reads without colour and fits 80 columns."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("check", no_wrap=True)
    table.add_column("task", overflow="ellipsis", no_wrap=True, max_width=_TASK_WIDTH)
    table.add_column("", overflow="fold")
    before = ""
    for finding in findings:
        name, style = _STYLES[finding.level]
        table.add_row(
            Text(name, style=style),
            finding.check if finding.check != before else "",
            finding.task,
            Text(finding.text, style=_TEXTS[finding.level]),
        )
        before = finding.check
    return table


def verdict(findings: Sequence[Finding]) -> Text:
    """The last line: whether the run may start."""
    failures, warnings = (
        sum(finding.level == level for finding in findings) for level in ("failure", "warning")
    )
    counts = ", ".join(
        f"{count} {word}{'s' if count > 1 else ''}"
        for count, word in ((failures, "failure"), (warnings, "warning"))
        if count
    )
    if failures:
        return Text(f"{counts}: this run would fail, or be worth nothing.", style="bold red")
    return Text(
        f"ready{f', with {counts}' if counts else ''}.", style="bold yellow" if warnings else "bold green"
    )
