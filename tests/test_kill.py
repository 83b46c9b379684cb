"""Killed at any moment, a run that is resumed ends with the bytes of one that never was."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from lmmcl.cli import main
from tests.killed_runs import Moments, forked, killed_runs
from tests.tiny_run import TinyRun, contents, write_config

KILLS = 12


def _fit(words: list[str], output: Path) -> None:
    os.nice(5)  # whoever watches it comes first, on a busy machine too
    # A worker of pytest-xdist ignores it, and so would this process.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with output.open("a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        code = main(words)
    sys.exit(code)


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    """Starts real processes, with their own signals, that have the imports behind them."""
    return forked()


def start(context: ForkServerContext, config: Path) -> BaseProcess:
    """``lmmcl fit`` in a process: a new run, or the one that is there."""
    words = ["fit", "--config", str(config)]
    if (config.parent / "run" / "config.json").exists():
        words += ["--ckpt_path", "last"]
    process = context.Process(target=_fit, args=(words, config.parent / "output"))
    process.start()
    return process


def wait_for_changes(process: BaseProcess, run: Path, number: int) -> None:
    """Waits until files of a run have been written so often."""
    before = None
    while number and process.exitcode is None:
        now = [(root, sorted(files)) for root, _, files in os.walk(run)]
        number -= now != before
        before = now
        time.sleep(0.001)


def output(config: Path) -> str:
    return (config.parent / "output").read_text()


@pytest.mark.parametrize("slower", [0.25, 1.0, 4.0])
def test_kills_spread_over_a_run_however_busy_the_machine_has_become(slower: float) -> None:
    """A second of work behind a third of a second of imports, as many times slower as when it was measured."""
    moments, quarters = Moments(1.0 + 1.0 / 3.0, seed=0), Counter[int]()
    done, kills = 0.0, 200
    while quarters.total() < kills:
        left, life = slower * (1.0 / 3.0 + 1.0 - done), moments.draw()
        moments.lived(min(left, life), ended=life >= left)
        if life >= left:
            done = 0.0
        else:
            done += max(0.0, life / slower - 1.0 / 3.0)
            quarters[int(4 * done)] += 1
    assert sorted(quarters) == [0, 1, 2, 3]
    assert all(0.1 * kills < count < 0.5 * kills for count in quarters.values()), quarters


@pytest.mark.slow
def test_sigkill_at_random_moments_changes_no_byte(tiny: Path, tmp_path: Path) -> None:
    *_, found = killed_runs(tiny, tmp_path, KILLS)
    assert found.kills == KILLS and found.different == []
    assert len(found.places) >= KILLS // 3  # it was killed while it did different things


def test_sigterm_saves_and_exits_143_and_the_run_goes_on_to_the_same_bytes(
    context: ForkServerContext, tiny: Path, finished: TinyRun, tmp_path: Path
) -> None:
    config = write_config(tmp_path, tiny, tmp_path / "run")
    log = tmp_path / "run" / "logs" / "metrics.csv"
    process = start(context, config)
    while not (log.exists() and log.read_text().count("\n") > 1) and process.exitcode is None:
        time.sleep(0.002)
    process.terminate()
    process.join()
    assert process.exitcode == 143, output(config)
    assert "stopped as asked, all is saved: go on with --ckpt_path last" in output(config)
    assert not (tmp_path / "run" / "summary.json").exists()
    process = start(context, config)
    process.join()
    assert process.exitcode == 0, output(config)
    assert contents(tmp_path / "run") == contents(finished.path)


def test_an_interrupt_says_how_to_go_on(context: ForkServerContext, tiny: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, tiny, tmp_path / "run")
    process = start(context, config)
    wait_for_changes(process, tmp_path / "run", 5)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == 1, output(config)
    assert "stopped as asked, the last checkpoint is whole: go on with --ckpt_path last" in output(config)


@pytest.mark.slow
def test_a_mistake_that_two_processes_meet_is_said_once(tiny: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, tiny, tmp_path / "run")
    words = ["--trainer.devices", "2", "--trainer.accelerator", "cpu", "--model.recipe", "sa_prooj"]
    found = subprocess.run(
        [sys.executable, "-m", "lmmcl", "fit", "--config", str(config), "--trainer.strategy", "ddp", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 2
    assert found.stderr.count("lmmcl: error") == 1
    assert "Did you mean sa_proj?" in found.stderr
