"""The completion script, asked by the shell itself."""

import shutil
import subprocess
from pathlib import Path

import pytest

from lmmcl.cli.entry import COMMANDS
from lmmcl.structure.recipe import RECIPES
from tests.tiny_run import command

ASK = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); _lmmcl; echo "${COMPREPLY[@]}"'


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    code, output, errors = command("completion", "bash")
    assert (code, errors) == (0, "")
    path = tmp_path_factory.mktemp("completion") / "lmmcl"
    path.write_text(output)
    return path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["lmmcl", ""], list(COMMANDS)),
        (["lmmcl", "va"], ["validate"]),
        (["lmmcl", "fit", "--model.re"], ["--model.recipe", "--model.recipe+", "--model.revision"]),
        (["lmmcl", "fit", "--model.recipe", ""], list(RECIPES)),
        (["lmmcl", "fit", "--model.schedule", ""], ["cosine", "constant"]),
        (["lmmcl", "fit", "--trainer.callbacks+", "Lw"], ["LwF"]),
        (["lmmcl", "fit", "--data.drop_last", "t"], ["true"]),
        (["lmmcl", "validate", "--sta"], ["--stage"]),
        (["lmmcl", "export", "run", "--max"], ["--max_shard_size"]),
        (["lmmcl", "export", "run", "--dtype", "b"], ["bfloat16"]),
        (["lmmcl", "preflight", "--model.pa"], ["--model.path"]),
        (["lmmcl", "recipes", "--trust"], ["--trust_remote_code"]),
        (["lmmcl", "completion", "z"], ["zsh"]),
        (["lmmcl", "fit", "--config", ""], []),  # left to the shell, which completes file names
    ],
)
def test_bash_completes(script: Path, words: list[str], expected: list[str]) -> None:
    asked = ["bash", "-c", ASK, "bash", str(script), *words]
    told = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert (told.stdout.split(), told.stderr) == (expected, "")


def test_zsh_reads_its_script(tmp_path: Path) -> None:
    code, output, _ = command("completion", "zsh")
    assert code == 0
    assert "bashcompinit" in output
    if (zsh := shutil.which("zsh")) is None:
        pytest.skip("no zsh here")
    (tmp_path / "script").write_text(output)
    subprocess.run([zsh, "-n", str(tmp_path / "script")], check=True)


def test_another_shell_is_refused() -> None:
    code, _, errors = command("completion", "fish")
    assert code == 2
    assert "bash" in errors
    assert errors.count("\n") == 1
