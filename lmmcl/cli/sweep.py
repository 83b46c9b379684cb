"""``lmmcl sweep``: runs every combination of a grid, one process each, and goes on where it was stopped."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yaml import YAMLError, safe_load

from lmmcl.cli.quiet import quiet
from lmmcl.cli.words import CommandParser
from lmmcl.errors import UserError
from lmmcl.redaction import without_secrets

if TYPE_CHECKING:
    from lmmcl.sweep.grid import Planned
    from lmmcl.sweep.state import State

_ABOUT = """Run every combination of a grid, one process each, on this machine.

The same command goes on after a kill, and never runs a finished run again. All other options are those of
lmmcl fit and go to every run. For a cluster, --commands writes the commands, one a line, and --slurm an array
script."""


def run(arguments: Sequence[str]) -> None:
    """Runs a grid, or writes what a cluster needs to run it."""
    words, rest = _parser().parse_known_args(list(arguments))
    quiet()
    from lmmcl.sweep.grid import Axis, planned
    from lmmcl.sweep.state import check_record, state_of

    _refuse_own_words(rest)
    if not words.grid:
        raise UserError(
            "sweep: --grid is missing; for example --grid model.recipe=full,sa_proj --grid seed=0,1,2."
        )
    configs = [str(path) for path in words.config]
    folder = words.runs or Path("runs") / (words.config[0].stem if words.config else "sweep")
    if (folder / "config.json").exists():
        raise UserError(f"sweep: {folder} holds a run of its own; give another folder for these by --runs.")
    runs = planned([Axis.parse(text) for text in words.grid], configs, rest, folder)
    _refuse_secrets(runs)
    _check_all(runs)
    states = {run.name: state_of(run.folder) for run in runs}
    check_record(folder, runs, states)
    if words.slurm or words.commands:
        _write_for_cluster(runs, words.commands, words.slurm, words.jobs, folder)
        return
    _print_states(runs, states, folder)
    if not words.list:
        _run_left(runs, states, words.jobs, words.gpus, folder)


def _parser() -> CommandParser:
    parser = CommandParser("lmmcl sweep", _ABOUT)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--config", metavar="FILE", type=Path, action="append", default=[], help="YAML of every run"
    )
    parser.add_argument(
        "--grid",
        metavar="KEY=V,V,...",
        action="append",
        default=[],
        help="an axis: a key of the YAML and its values; config=A.yaml,B.yaml adds one of these YAMLs. Give several",
    )
    parser.add_argument(
        "--runs", metavar="DIR", type=Path, help="their folders go here [runs/NAME_OF_THE_YAML]"
    )
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="runs at a time [1]")
    parser.add_argument(
        "--gpus", metavar="I,I,...", default="", help="one of these for each run at a time [each sees all]"
    )
    parser.add_argument("--list", action="store_true", help="say what is done and what is left, and end")
    parser.add_argument(
        "--commands", metavar="FILE", type=Path, help="write the commands, one a line, and end"
    )
    parser.add_argument("--slurm", metavar="FILE", type=Path, help="write a SLURM array script, and end")
    return parser


def _refuse_own_words(rest: Sequence[str]) -> None:
    """Refuses what the sweep says to every run itself, and would take from the user without a word."""
    for word in rest:
        option = word.partition("=")[0]
        if option == "--run":
            raise UserError("sweep: --run is the folder of one run; did you mean --runs?")
        if option == "--ckpt_path":
            raise UserError(
                "sweep: --ckpt_path is set by the sweep itself, which goes on with every run that was begun; leave "
                "it out (did you mean --runs, the folder to go on with?)."
            )


def _refuse_secrets(runs: Sequence[Planned]) -> None:
    """Raises UserError where a word is a token or a password: a sweep keeps the words of its runs."""
    for run in runs:
        for option, word in zip(("", *run.words), run.words, strict=False):
            if _tells(option, word) or ("=" in word and _tells(*word.split("=", 1))):
                raise UserError(
                    f"sweep: the words of a run are kept in its folder and must hold no token and no password, got one "
                    f"behind {option or 'sweep'}; give it by the environment (HF_TOKEN, WANDB_API_KEY)."
                )


def _tells(option: str, word: str) -> bool:
    """Whether a word, or what it says as YAML, is a secret by itself or under its option's name."""
    told: list[Any] = [{option.rpartition(".")[2].lstrip("-"): word}]
    with suppress(YAMLError):
        told.append(safe_load(word))
    return any(without_secrets(given) != given for given in told)


def _check_all(runs: Sequence[Planned]) -> None:
    """Looks at the config of every run, so that a mistake in the last one shows before the first one starts."""
    from lmmcl.cli.config_check import ConfigCheck
    from lmmcl.cli.quiet import quiet_libraries

    quiet_libraries()
    configs = ConfigCheck()
    for run in runs:
        try:
            configs.check(run.words)
        except UserError as error:
            raise UserError(f"{error} (in the run {run.name})") from error


def _write_for_cluster(
    runs: Sequence[Planned], commands: Path | None, slurm: Path | None, jobs: int, folder: Path
) -> None:
    from lmmcl.run.checkpoint import write_atomically
    from lmmcl.sweep.cluster import command_lines, slurm_script
    from lmmcl.sweep.loop import LOGS
    from lmmcl.sweep.state import OWN

    commands, logs = commands or folder / OWN / "commands.txt", folder / OWN / LOGS
    commands.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(commands, command_lines(runs).encode())
    print(f"{commands}: {len(runs)} commands, one a line; each goes on where it was.")
    if slurm is not None:
        logs.mkdir(parents=True, exist_ok=True)
        slurm.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(slurm, slurm_script(runs, commands, jobs, logs).encode())
        print(f"{slurm}: add your partition and GPUs to it, then sbatch {shlex.quote(str(slurm))}")


def _print_states(runs: Sequence[Planned], states: dict[str, State], folder: Path) -> None:
    count = {
        state: sum(found == state for found in states.values()) for state in ("finished", "begun", "new")
    }
    running = sum(found == "running" for found in states.values())
    more = f", {running} running in another process" if running else ""
    print(
        f"{len(runs)} runs in {folder}: {count['finished']} finished, {count['begun']} begun, {count['new']} new{more}"
    )
    for run in runs:
        print(f"  {states[run.name]:<10}{run.name}{_numbers(run)}")


def _run_left(runs: Sequence[Planned], states: dict[str, State], jobs: int, gpus: str, folder: Path) -> None:
    from lmmcl.report.clock import clock_text
    from lmmcl.sweep.loop import LOGS, Loop, Outcome
    from lmmcl.sweep.state import OWN

    left = [run for run in runs if states[run.name] in ("new", "begun")]
    elsewhere = [run for run in runs if states[run.name] == "running"]
    already = len(runs) - len(left) - len(elsewhere)
    done, spent = already, 0.0

    def began(run: Planned) -> None:
        print(f"began     {run.name}", flush=True)

    def ended(outcome: Outcome) -> None:
        nonlocal done, spent
        done, spent = done + 1, spent + outcome.seconds
        name, took = outcome.run.name, clock_text(outcome.seconds)
        if outcome.complete:
            print(f"finished  {name}{_numbers(outcome.run)} ({took})")
        else:
            print(f"FAILED    {name} ({outcome.ending}, {took}): {outcome.reason}")
        remaining = clock_text(spent / (done - already) * (len(runs) - done) / jobs)
        more = f", about {remaining} left" if done < len(runs) else ""
        print(f"          {done} of {len(runs)} done{more}", flush=True)

    given = [gpu for gpu in gpus.split(",") if gpu]
    loop = Loop(left, jobs, given, folder / OWN / LOGS, began, ended, elsewhere.append)
    try:
        outcomes = loop.run()
    except KeyboardInterrupt:
        print(
            "lmmcl: stopped; the runs saved where they stand, and the same command goes on.", file=sys.stderr
        )
        raise SystemExit(130) from None
    failed = [outcome for outcome in outcomes if not outcome.complete]
    if failed:
        names = ", ".join(outcome.run.name for outcome in failed)
        raise UserError(
            f"sweep: {len(failed)} of {len(runs)} runs failed ({names}); what they said stands in "
            f"{folder / OWN / LOGS}. The same command tries them again."
        )
    if elsewhere:
        names = ", ".join(run.name for run in elsewhere)
        raise UserError(
            f"sweep: {len(elsewhere)} of {len(runs)} runs were left to another process that writes them ({names}). "
            "Wait for it or stop it, and the same command does what is left."
        )
    print(f"All {len(runs)} are finished. Compare them: lmmcl report {shlex.quote(str(folder))}/*/")


def _numbers(run: Planned) -> str:
    """What a finished run learned and what it cost, where it says so."""
    from lmmcl.report.artefacts import load_summary
    from lmmcl.report.style import signed

    summary = load_summary(run.folder)
    if summary is None:
        return ""
    told = {"target_learning": "learned", "held_out_change": "held-out"}
    found = [(word, summary[name].value) for name, word in told.items() if name in summary.estimates]
    return "".join(
        f"{': ' if i == 0 else ', '}{word} {signed(value, 1)}" for i, (word, value) in enumerate(found)
    )
