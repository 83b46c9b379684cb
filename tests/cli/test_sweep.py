"""``lmmcl sweep`` through the real command line, with runs that train."""

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch import nn

from lmmcl.loading import Checkpoint
from lmmcl.run.run_lock import RunLock
from lmmcl.structure.recipe_table import on_meta
from lmmcl.sweep.state import state_of
from tests.tiny_run import TinyRun, command, write_config

SMALL = ("--data.max_eval_samples", "2", "--data.held_out", "[]")


@pytest.fixture(scope="module")
def config(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    return write_config(folder, tiny, folder / "unused")


def words(config: Path, runs: Path, *more: str) -> list[str]:
    grid = ("--grid", "model.recipe=sa_proj,mlp_gate_up", *more)
    return ["sweep", "--config", str(config), *grid, "--runs", str(runs), *SMALL]


@pytest.mark.slow
def test_it_runs_what_is_left_goes_on_after_a_kill_and_never_runs_a_finished_run_again(
    config: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "my runs"
    one = ["sweep", "--config", str(config), "--grid", "model.recipe=sa_proj", "--runs", str(runs), *SMALL]
    code, output, errors = command(*one)
    assert code == 0, errors
    assert "finished  recipe=sa_proj: learned" in output and "All 1 are finished" in output
    first = runs / "recipe=sa_proj"
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*") if path.is_file()}
    assert state_of(first) == "finished"

    # Two runs now: the one that is there is left alone, the other one is killed by SIGTERM and resumed.
    begun = subprocess.Popen(
        [sys.executable, "-m", "lmmcl", *words(config, runs)], stdout=subprocess.PIPE, text=True
    )
    other = runs / "recipe=mlp_gate_up"
    until = time.monotonic() + 120
    while not any((other / "last").glob("*/manifest.json")) and time.monotonic() < until:
        time.sleep(0.05)
    begun.send_signal(signal.SIGTERM)
    said, _ = begun.communicate(timeout=60)
    assert begun.returncode == 130 and "2 runs in" in said and "1 finished, 0 begun, 1 new" in said
    assert state_of(other) == "begun"
    code, output, errors = command(*words(config, runs))
    assert code == 0, errors
    assert "1 finished, 1 begun, 0 new" in output and output.count("began") == 1
    assert "--ckpt_path" not in (runs / ".sweep" / "sweep.json").read_text()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert state_of(other) == "finished"

    # The line that it ends with compares what it ran, and takes nothing else for a run.
    (line,) = [line for line in output.splitlines() if "Compare them: " in line]
    report = line.partition("Compare them: ")[2].removeprefix("lmmcl ")
    said_words = subprocess.check_output(["bash", "-c", f"printf '%s\\n' {report}"], text=True).splitlines()
    page = tmp_path / "page.html"
    code, _, errors = command(*said_words, "--to", page)
    assert code == 0 and page.is_file(), errors

    changed = config.with_name("changed.yaml")
    changed.write_text(config.read_text())
    record = json.loads((runs / ".sweep" / "sweep.json").read_text())
    assert set(record) == {"recipe=sa_proj", "recipe=mlp_gate_up"}
    code, _, errors = command(*words(config, runs), "--model.lr", "0.5")
    assert code == 2 and "was begun from something else" in errors and "--runs" in errors


def test_a_run_that_fails_is_named_with_its_reason_and_others_run_on(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, stub = tmp_path / "runs", tmp_path / "stub"
    told = "lmmcl: error: model.path: there is no such folder"
    stub.write_text(f'#!/bin/bash\ncase "$*" in *"--model.recipe sa_proj"*) echo "{told}"; exit 2;; esac\n')
    stub.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stub))  # in the place of every run
    code, output, errors = command(*words(config, runs))
    assert code == 2 and output.count("FAILED") == 1 and "FAILED    recipe=sa_proj (exit code 2" in output
    assert told in output and "finished  recipe=mlp_gate_up" in output
    assert "1 of 2 runs failed" in errors and str(runs / ".sweep" / "logs") in errors


def test_a_mistake_in_any_run_shows_before_the_first_one_starts(config: Path, tmp_path: Path) -> None:
    code, output, errors = command(*words(config, tmp_path, "--grid", "model.lr=1e-3,fast"))
    assert code == 2 and output == ""
    assert "model.lr must be a number, got 'fast'" in errors and "in the run recipe=sa_proj,lr=fast" in errors
    code, _, errors = command(*words(config, tmp_path), "--modle.lr", "1")
    assert code == 2 and "did you mean model?" in errors
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("axis", "told"),
    [
        ("model.recipe=sa_proj,sa_pojr", "sa_pojr"),
        ("model.recipe=sa_proj,llm.attn.nothing", "llm.attn.nothing"),
        ("data.tasks=[count],[cuont]", "there is no task 'cuont'"),
        (
            "trainer.callbacks=[{class_path: WiSEFT, init_args: {alpha: 0.3}}],"
            "[{class_path: WiSEFT, init_args: {alpha: 7}}]",
            "WiSEFT",
        ),
        ("trainer.callbacks=[LwF],[LoRA,{class_path: OLoRA}]", "cannot work together"),
    ],
)
def test_what_needs_no_weights_is_resolved_for_every_run_before_the_first_one_starts(
    axis: str, told: str, config: Path, tmp_path: Path
) -> None:
    grid = ("--grid", axis, "--grid", "seed=0,1", "--runs", tmp_path / "runs")
    code, output, errors = command("sweep", "--config", config, *grid, *SMALL)
    assert code == 2 and output == ""
    assert told in errors and "in the run " in errors and errors.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_runs_of_one_model_have_it_looked_at_once(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Checkpoint] = []

    def counted(source: Checkpoint) -> nn.Module:
        built.append(source)
        return on_meta(source)

    monkeypatch.setattr("lmmcl.cli.config_check.on_meta", counted)
    code, output, errors = command(*words(config, tmp_path / "runs", "--grid", "seed=0,1,2,3,4"), "--list")
    assert code == 0 and "10 runs in" in output, errors
    assert len(built) == 1


def test_a_run_that_another_process_writes_is_left_to_it(config: Path, tmp_path: Path) -> None:
    runs, lock = tmp_path / "runs", RunLock()
    one = ("sweep", "--config", config, "--grid", "model.recipe=sa_proj", "--runs", runs, *SMALL)
    lock.take(runs / "recipe=sa_proj")
    code, output, errors = command(*one)
    assert "0 finished, 0 begun, 0 new, 1 running in another process" in output and "began" not in output
    assert (
        code == 2 and "1 of 1 runs were left to another process that writes them (recipe=sa_proj)" in errors
    )
    lock.release()
    code, output, _ = command(*one, "--list")
    assert code == 0 and "0 finished, 0 begun, 1 new\n" in output


@pytest.mark.parametrize("given", [("--run", "x"), ("--run=x",), ("--ckpt_path", "last")])
def test_what_it_says_to_every_run_itself_is_refused(
    given: tuple[str, ...], config: Path, tmp_path: Path
) -> None:
    code, output, errors = command(*words(config, tmp_path / "runs"), *given)
    assert code == 2 and output == "" and "did you mean --runs" in errors
    assert not any(tmp_path.iterdir())


def test_without_a_grid_or_with_odd_numbers_it_says_what_to_give(config: Path, tmp_path: Path) -> None:
    code, _, errors = command("sweep", "--config", config)
    assert code == 2 and "--grid is missing" in errors
    code, _, errors = command(*words(config, tmp_path / "a"), "--jobs", "0")
    assert code == 2 and "--jobs must be at least 1, got 0" in errors
    code, _, errors = command(*words(config, tmp_path / "b"), "--jobs", "2", "--gpus", "3")
    assert code == 2 and "--jobs must be at most the number of --gpus" in errors


def test_for_a_cluster_it_writes_one_command_a_line_and_an_array_script(config: Path, tmp_path: Path) -> None:
    runs, script = tmp_path / "my runs, 50%a", tmp_path / "array.sh"
    code, output, errors = command(
        *words(config, runs, "--grid", "seed=0,1"), "--slurm", script, "--jobs", "3"
    )
    assert code == 0, errors
    lines = (runs / ".sweep" / "commands.txt").read_text().splitlines()
    assert len(lines) == 4 and f"sbatch {script}" in output
    # As the shell reads a line: nothing to go on with at first, then the run that was begun.
    folder = runs / "recipe=sa_proj,seed=0"

    def read() -> list[str]:
        return shlex.split(subprocess.check_output(["bash", "-c", f"echo {lines[0]}"], text=True))

    assert read()[:2] == ["lmmcl", "fit"] and "--ckpt_path" not in read()
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert read()[-2:] == ["--ckpt_path", "last"]
    text = script.read_text()
    assert "#SBATCH --array=1-4%3" in text and str(runs / ".sweep" / "commands.txt") in text
    (said,) = [line for line in text.splitlines() if "--output" in line]
    assert shlex.split(said.removeprefix("#SBATCH ")) == [
        f"--output={tmp_path}/my runs, 50%%a/.sweep/logs/%a.log"
    ]
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def test_a_list_runs_nothing(config: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    code, output, _ = command(*words(config, runs), "--list")
    assert code == 0 and "2 runs in" in output and "0 finished, 0 begun, 2 new" in output
    assert not (runs / "recipe=sa_proj").exists()


def test_the_folder_of_a_run_is_no_place_for_a_sweep(finished: TinyRun) -> None:
    """The default folder, by the YAML's name, is often that of the YAML's own run."""
    code, _, errors = command(
        "sweep", "--config", finished.config, "--grid", "seed=0,1", "--runs", finished.path, "--list"
    )
    assert code == 2
    assert (
        f"sweep: {finished.path} holds a run of its own; give another folder for these by --runs." in errors
    )
