"""Two processes, from the command line and from the cluster's scripts: how they are started, and how they end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tiny_run import contents, write_config

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "configs" / "cluster"
ON_TWO = ["--trainer.strategy", "fsdp2", "--trainer.devices", "2", "--trainer.accelerator", "cpu"]


def environment(**more: str) -> dict[str, str]:
    """One thread a process, this interpreter's commands first."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "OMP_NUM_THREADS": "1", "PATH": path, **more}


@contextmanager
def started(*words: object, **more: str) -> Iterator[subprocess.Popen[str]]:
    """A command that is running, in a session of its own; nothing of it is left at the end."""
    process = subprocess.Popen(
        [str(word) for word in words],
        env=environment(**more),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def finished(*words: object, **more: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command."""
    with started(*words, **more) as process:
        output, errors = process.communicate(timeout=240)
    return process.returncode, output, errors


def steps(run: Path) -> int:
    """Optimizer steps that a run has logged."""
    log = run / "logs" / "metrics.csv"
    return max(0, log.read_text().count("\n") - 1) if log.exists() else 0


@pytest.fixture(scope="module")
def undisturbed(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by the script for torchrun, on two processes."""
    folder = tmp_path_factory.mktemp("torchrun")
    config = write_config(folder, tiny, folder / "run")
    script = ["bash", CLUSTER / "torchrun.sh", config, folder / "run", "--trainer.accelerator", "cpu"]
    code, output, errors = finished(*script, PROCESSES="2")
    assert code == 0, errors
    assert output.count("learning and forgetting") == 1
    assert "2 × cpu, 32-true, FSDP2" in output
    return folder / "run"


@pytest.mark.slow
def test_a_killed_process_ends_the_others_with_one_message_and_the_run_goes_on_to_the_same_bytes(
    undisturbed: Path, tiny: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ["fit", "--config", write_config(tmp_path, tiny, run), *ON_TWO]
    with started(sys.executable, "-m", "lmmcl", *words) as first:
        while steps(run) < 2 and first.poll() is None:
            time.sleep(0.01)
        others = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
        os.kill(int(others[0]), signal.SIGKILL)
        began = time.monotonic()
        _, errors = first.communicate(timeout=60)
        assert (
            time.monotonic() - began < 20
        )  # some tenths of a second on a machine that has nothing else to do
    assert first.returncode == 1
    assert errors.startswith(f"lmmcl: error: process 1 (pid {others[0]} on ") and errors.count("\n") == 1
    assert errors.endswith("Go on with --ckpt_path last.\n")
    assert not (run / "summary.json").exists()

    command = tmp_path / "lmmcl"  # what an installation makes of the entry point
    command.write_text(
        "import sys\nfrom lmmcl.cli import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
    )
    code, output, errors = finished(sys.executable, command, *words, "--ckpt_path", "last")
    assert (code, errors) == (0, "") and output.count("learning and forgetting") == 1
    assert contents(run) == contents(undisturbed)


SRUN = """#!/usr/bin/env bash
# Stands for Slurm's: what it is given, and a step that ends as lmmcl does when it is asked to stop.
echo "$OMP_NUM_THREADS $*" >> "$SAID"
if [ -n "${WAITS:-}" ]; then
    trap 'exit 143' USR1 # of other signals srun makes SIGKILL
    touch "$SAID.waits"
    for _ in $(seq 600); do sleep 0.05; done
fi
"""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a batch script, with stand-ins for Slurm's commands."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in {"srun": SRUN, "scontrol": '#!/bin/sh\necho "scontrol $*" >> "$SAID"\n'}.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    return {
        "PATH": f"{commands}:{os.environ['PATH']}",
        "SAID": str(tmp_path / "said"),
        "SLURM_JOB_ID": "42",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_NTASKS_PER_NODE": "8",
        "SLURM_CPUS_PER_TASK": "4",
    }


def test_the_slurm_script_starts_a_run_and_goes_on_with_one_that_is_there(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    script = ["bash", CLUSTER / "slurm.sh", "mine.yaml", tmp_path / "run", "--trainer.strategy", "ddp"]
    assert finished(*script, **slurm) == (0, "", "")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").touch()
    assert finished(*script, **slurm) == (0, "", "")
    fit = (
        f"4 --kill-on-bad-exit=1 lmmcl fit --config mine.yaml --run {tmp_path / 'run'} --trainer.strategy fsdp2 "
        "--trainer.num_nodes 2 --trainer.devices 8"
    )
    said = Path(slurm["SAID"]).read_text().splitlines()
    assert said == [f"{fit} --trainer.strategy ddp", f"{fit} --ckpt_path last --trainer.strategy ddp"]


@pytest.mark.parametrize(("by", "again"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_a_job_whose_time_is_over_saves_and_waits_for_its_turn_again_and_a_cancelled_one_does_not(
    by: signal.Signals, again: bool, slurm: dict[str, str], tmp_path: Path
) -> None:
    said = Path(slurm["SAID"])
    with started("bash", CLUSTER / "slurm.sh", "mine.yaml", tmp_path / "run", WAITS="1", **slurm) as job:
        while not said.with_suffix(".waits").exists():
            time.sleep(0.01)
        if by is signal.SIGUSR1:
            job.send_signal(by)  # to the batch shell only, as --signal=B: says
        else:
            os.killpg(job.pid, by)
        job.communicate(timeout=20)
    assert job.returncode == (143 if again else -signal.SIGTERM)
    assert ("scontrol requeue 42" in said.read_text()) == again


@pytest.mark.parametrize("name", sorted(path.name for path in CLUSTER.iterdir()))
def test_every_script_is_sound_bash_that_says_how_to_call_it(name: str) -> None:
    path = CLUSTER / name
    assert finished("bash", "-n", path) == (0, "", "")
    command = path.read_text().splitlines()[1]
    starter, *rest = command.removeprefix("# ").split()
    assert starter in ("bash", "sbatch")
    assert rest == [str(path.relative_to(ROOT)), "configs/your_data.yaml", "runs/first"]
    code, _, errors = finished("bash", path)
    assert code == 2 and errors.startswith("usage: ")
