"""The log of a run: a row per step, no gap, no double, the same bytes after a kill."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lmmcl.errors import UserError
from lmmcl.run.log import RunLog


def put(log: RunLog, steps: range, task: str = "count", **more: float) -> None:
    for step in steps:
        log.put(step, task, {"loss": torch.tensor(1 / step), **more})


def text(folder: Path) -> str:
    return (folder / "metrics.csv").read_text()


def test_a_row_holds_step_task_and_numbers(tmp_path: Path) -> None:
    log = RunLog(tmp_path, True)
    log.begin(0)
    log.put(1, "count", {"loss": torch.tensor(0.25), "LwF": 3.0})
    log.flush()
    assert text(tmp_path) == "step,task,loss,LwF\n1,count,0.25,3\n"


def test_a_number_that_comes_later_gets_a_column_and_leaves_earlier_rows_empty(tmp_path: Path) -> None:
    log = RunLog(tmp_path, True)
    log.begin(0)
    put(log, range(1, 2))
    log.flush()
    put(log, range(2, 3), held_out_kl=0.5)
    log.flush()
    put(log, range(3, 4))
    log.flush()
    assert text(tmp_path) == "step,task,loss,held_out_kl\n1,count,1,\n2,count,0.5,0.5\n3,count,0.3333333,\n"


@pytest.mark.parametrize("cut", ["", "5,cou"])
def test_a_log_that_goes_on_after_a_kill_has_the_bytes_of_one_that_never_stopped(
    tmp_path: Path, cut: str
) -> None:
    whole = RunLog(tmp_path / "whole", True)
    whole.begin(0)
    put(whole, range(1, 9))
    whole.flush()
    killed = RunLog(tmp_path / "killed", True)
    killed.begin(0)
    put(killed, range(1, 5))
    killed.flush()
    with (tmp_path / "killed" / "metrics.csv").open("a") as file:
        file.write(cut)
    again = RunLog(tmp_path / "killed", True)
    again.begin(2)
    put(again, range(3, 9))
    again.flush()
    assert text(tmp_path / "killed") == text(tmp_path / "whole")


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        (lambda text: text.replace("\n2,", "\nx,"), 1),
        (lambda text: text.replace(",0.5\n", ",0.\udcff\n"), 1),
        (lambda text: text.replace("2,count", "2count"), 1),
        (lambda text: text.replace("\n2,", "\n3,"), 1),
        (lambda text: text.replace("step", "stop"), 4),
        (lambda text: "\0" * len(text), 4),
        (lambda text: "", 4),
        (lambda text: None, 4),
    ],
)
def test_rows_that_are_damaged_or_gone_are_told_of_and_the_log_goes_on(
    tmp_path: Path, damage: Callable[[str], str | None], lost: int
) -> None:
    log = RunLog(tmp_path, True)
    log.begin(0)
    put(log, range(1, 5))
    log.flush()
    now = damage(text(tmp_path))
    if now is None:
        (tmp_path / "metrics.csv").unlink()
    else:
        (tmp_path / "metrics.csv").write_bytes(now.encode(errors="surrogateescape"))
    again = RunLog(tmp_path, True)
    with pytest.warns(UserWarning, match=rf"metrics.csv lacks {lost} of 4 steps"):
        again.begin(4)
    put(again, range(5, 6))
    again.flush()
    assert text(tmp_path).startswith("step,task,loss\n") and text(tmp_path).endswith("\n5,count,0.2\n")


def test_a_number_called_as_the_place_of_a_row_does_not_take_it(tmp_path: Path) -> None:
    log = RunLog(tmp_path, True)
    log.begin(0)
    for step in (1, 2):
        log.put(step, "count", {"loss": 1 / step, "step": 7.0, "task": 8.0})
    log.flush()
    assert text(tmp_path) == "step,task,loss,logged step,logged task\n1,count,1,7,8\n2,count,0.5,7,8\n"


def test_a_new_run_drops_what_lies_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,task,old\n1,x,2\n")
    RunLog(tmp_path, True).begin(0)
    assert text(tmp_path) == "step,task\n"


def test_times_stand_apart(tmp_path: Path) -> None:
    log = RunLog(tmp_path, True)
    log.begin(0)
    put(log, range(1, 3))
    log.flush()
    assert "seconds" not in text(tmp_path)
    lines = (tmp_path / "timing.csv").read_text().splitlines()
    assert lines[0] == "step,task,seconds"
    assert [line.rpartition(",")[0] for line in lines[1:]] == ["1,count", "2,count"]


def test_rows_are_written_now_and_then_without_being_asked(tmp_path: Path) -> None:
    log = RunLog(tmp_path, True)
    log.begin(0)
    put(log, range(1, 30))
    assert text(tmp_path).count("\n") == 21


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "logs", False)
    log.begin(0)
    put(log, range(1, 30))
    log.flush()
    assert not (tmp_path / "logs").exists()


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(UserError, match="could not write"):
        RunLog(tmp_path / "logs", True).begin(0)
