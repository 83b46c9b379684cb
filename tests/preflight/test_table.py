"""The table: fits 80 columns, reads without colour, and has its colours."""

import io
from typing import Any

from rich.console import Console

from lmmcl.preflight.finding import Finding
from lmmcl.preflight.mask import Piece
from lmmcl.preflight.table import findings_table, sample, verdict

FOUND = [
    Finding("ok", "tasks", "", "targets: 2, held-out tasks: 0; all load"),
    Finding(
        "failure",
        "rows",
        "a_task_with_a_very_long_name",
        "/a/very/long/path/" + "folder/" * 20 + "rows.jsonl, row 7",
    ),
    Finding("failure", "rows", "mine", "[an answer] must not be empty"),
    Finding("warning", "memory", "", "it may not fit"),
]


def printed(what: Any, colour: bool = False) -> str:
    console = Console(
        file=io.StringIO(), width=80, force_terminal=colour, color_system="truecolor" if colour else None
    )
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_table_fits_80_columns_and_folds_what_is_long() -> None:
    lines = printed(findings_table(FOUND)).splitlines()
    assert max(map(len, lines)) <= 80
    assert "".join(line.strip() for line in lines).count("folder/") >= 18


def test_levels_read_without_colour_and_a_check_is_named_once() -> None:
    text = printed(findings_table(FOUND))
    assert [text.count(word) for word in ("FAILURE", "warning", "ok ")] == [2, 1, 1]
    assert sum("rows" in line[:16] for line in text.splitlines()) == 1
    assert "[an answer] must not be empty" in text


def test_failures_are_red_and_warnings_yellow() -> None:
    text = printed(findings_table(FOUND), colour=True)
    assert "\x1b[1;31mFAILURE\x1b[0m" in text
    assert "\x1b[31m[an answer] must not be empty" in text
    assert "\x1b[33mwarning\x1b[0m" in text
    assert "\x1b[33mit may not fit" in text


def test_the_verdict_counts() -> None:
    assert printed(verdict(FOUND)) == "2 failures, 1 warning: this run would fail, or be worth nothing.\n"
    assert printed(verdict(FOUND[3:])) == "ready, with 1 warning.\n"
    assert printed(verdict(FOUND[:1])) == "ready.\n"


def test_a_sample_shows_prompt_grey_pictures_as_a_count_and_the_answer_green_in_brackets() -> None:
    pieces = [
        Piece("prompt", "<|user|>", 1),
        Piece("image", "", 576),
        Piece("prompt", "[How] many?<|end|>", 5),
        Piece("answer", "3<|end|>", 2),
    ]
    shown = sample("count: row 'a'", pieces)
    assert "<|user|>‹576 image tokens›[How] many?<|end|>⟦3<|end|>⟧" in printed(shown)
    coloured = printed(shown, colour=True)
    assert "\x1b[90m<|user|>" in coloured
    assert "\x1b[1;32m3<|end|>" in coloured
