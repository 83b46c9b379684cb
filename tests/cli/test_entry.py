"""The command line itself: help in no time, one line for every mistake."""

import subprocess
import sys
from pathlib import Path

import pytest

import lmmcl
from lmmcl.cli.entry import COMMANDS
from tests.tiny_run import command


def test_help_names_every_command() -> None:
    code, output, errors = command("--help")
    assert (code, errors) == (0, "")
    assert all(f"\n  {name}" in output for name in COMMANDS)
    assert command() == (code, output, errors)


def test_help_does_not_wait_for_torch() -> None:
    script = "import sys; from lmmcl.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == 0


def test_every_command_has_help_of_its_own() -> None:
    for name in COMMANDS:
        code, output, _ = command(name, "--help")
        assert code == 0
        assert f"lmmcl {name}" in output


def test_an_unknown_command_gets_the_nearest() -> None:
    code, _, errors = command("fitt")
    assert code == 2
    assert errors.startswith("lmmcl: error: there is no command 'fitt'; did you mean fit?")


def test_the_version_is_that_of_the_package() -> None:
    assert command("--version") == (0, f"lmmcl {lmmcl.__version__}\n", "")


def test_recipes_prints_groups_and_recipes(tiny: Path) -> None:
    code, output, errors = command("recipes", "--model", tiny)
    assert (code, errors) == (0, "")
    assert "sa_proj" in output
    assert "llm.attn.q" in output
    code, _, errors = command("recipes", "--modle", tiny)
    assert code == 2
    assert errors.count("\n") == 1


def test_what_nobody_foresaw_is_one_line_and_exit_code_1(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("lmmcl.structure.recipe_table.print_recipes", broken)
    code, _, errors = command("recipes", "--model", tiny)
    assert (code, errors) == (1, "lmmcl: error: RuntimeError: two lines (--debug shows where)\n")
