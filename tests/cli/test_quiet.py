"""Chatter is kept back; a warning that matters is one line."""

import subprocess
import sys

SCRIPT = """
import warnings
from lmmcl.cli.quiet import quiet
quiet()
warnings.warn("not used: a file\\nis cut short")
warnings.warn("`max_epochs` was not set. Setting it to 1000 epochs.")
warnings.warn("The `train_dataloader` does not have many workers which may be a bottleneck.")
"""


def said(**environment: str) -> str:
    command = [sys.executable, "-c", SCRIPT]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stderr


def test_chatter_is_kept_back_and_a_warning_is_one_line() -> None:
    assert said() == "lmmcl: warning: not used: a file is cut short\n"


def test_only_the_first_process_of_a_machine_warns() -> None:
    assert said(LOCAL_RANK="1") == ""


def test_tables_are_read_without_a_bar_where_nobody_watches() -> None:
    script = "from lmmcl.cli.quiet import quiet; quiet(); import datasets; print(datasets.are_progress_bars_disabled())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
