"""The line of progress: what it says, that it fits, and that only the first process speaks."""

import io
import re

import pytest
from rich.console import Console

from lmmcl.report.clock import SequenceClock
from lmmcl.report.progress import SequenceProgress
from tests.tiny_run import TinyRun


def drawn(width: int, head: str, tail: str, share: float) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    progress = SequenceProgress(console)
    progress._head, progress._tail, progress._share = head, tail, share
    console.print(progress._line())
    file = console.file
    assert isinstance(file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_line_fits_on_one_line_and_shows_a_bar_where_there_is_room(width: int) -> None:
    line = drawn(width, "task 2 of 5 count", "step 37/120 · loss 0.41 · held-out KL 0.02", 0.3)
    assert line.count("\n") == 1
    assert line.startswith("task 2 of 5 count ")
    assert "step 37/120 · loss 0.41 · held-out KL 0.02" in line
    assert "━" in line
    assert len(line) <= width + 1


def test_a_narrow_terminal_loses_the_bar_first() -> None:
    line = drawn(62, "task 2 of 5 count", "step 37/120 · loss 0.41 · held-out KL 0.02", 0.3)
    assert "━" not in line
    assert "step 37/120 · loss 0.41" in line


def test_the_line_says_the_time_that_is_left() -> None:
    progress = SequenceProgress(Console(file=io.StringIO()))
    progress._clock = SequenceClock([100])
    for _ in range(3):
        progress._clock.stepped(1.0)
    progress._position, progress._tail = (1, 28), "step 28/100"
    assert progress._with_time() == "step 28/100 · 1:12 left"


def test_a_pipe_gets_the_last_step_of_every_task_whatever_the_rate(finished: TinyRun) -> None:
    lines = [line for line in finished.output.splitlines() if line.startswith("task ")]
    assert [line.partition(" · loss")[0] for line in lines if "3/3" in line or "4/4" in line] == [
        "task 1 of 2 count · step 3/3",
        "task 2 of 2 word · step 4/4",
    ]
