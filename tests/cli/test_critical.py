"""Exit code 3: a critical row was right with the base model and is wrong now, by the real command line."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lmmcl.cli.critical import CRITICAL, critical_exit
from lmmcl.evaluation.flipped_examples import FlippedExample, read_flips
from lmmcl.scorers.score import Score
from tests.tiny_run import command, contents


def exact(prediction: str, gold: Any, meta: Any) -> Score:
    """Byte for byte: what a random model says is nothing that a scorer of ours would read."""
    return Score(float(prediction == gold))


def write_rows(path: Path, golds: list[str], critical: list[bool]) -> None:
    rows = [
        {
            "id": f"row {i}",
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": f"what is {i}"}]},
                {"role": "assistant", "content": [{"type": "text", "text": gold}]},
            ],
            **({"critical": True} if marked else {}),
        }
        for i, (gold, marked) in enumerate(zip(golds, critical, strict=True))
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


N = 6


@pytest.fixture(scope="module")
def config(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A held-out file whose gold answers are the base model's own, the first row of which must not flip.

    At this learning rate the tiny model says something else after one task.
    """
    folder = tmp_path_factory.mktemp("critical")
    rows = folder / "regression.jsonl"
    write_rows(rows, ["yes"] * N, [False] * N)
    text = f"""
model: {{path: {tiny}, lr: 0.05}}
data:
  tasks: [{{task: count, max_train_samples: 8}}]
  held_out:
    - {{task: regression, path: {rows}, split: {{test: 1.0}}, scorer: tests.cli.test_critical.exact, max_new_tokens: 4}}
  batch_size: 4
  max_eval_samples: 20
trainer: {{precision: 32-true, callbacks: [{{class_path: HeldOutEvaluation, init_args: {{canary_every_n_steps: 0}}}}]}}
run: {folder / "run"}
"""
    path = folder / "seq.yaml"
    path.write_text(text)
    code, _, errors = command("validate", "--config", path, "--run", folder / "probe")
    assert code == 0, errors
    found = folder / "probe/validate/00-base/predictions/00-base/regression.jsonl"
    said = {e["id"]: e["prediction"] for e in map(json.loads, found.read_text().splitlines())}
    write_rows(rows, [said[f"row {i}"] or "." for i in range(N)], [i == 0 for i in range(N)])
    return path


@pytest.fixture(scope="module")
def fitted(config: Path) -> tuple[int, str, str]:
    return command("fit", "--config", config)


def test_a_fit_that_loses_a_critical_row_lists_it_ends_with_3_and_is_whole(
    config: Path, fitted: tuple[int, str, str]
) -> None:
    code, output, errors = fitted
    assert code == CRITICAL == 3, errors
    assert "1 critical row was right with the base model and is wrong now:" in errors
    assert "regression/row 0" in errors
    assert errors.count("regression/row") == 1
    assert "learning and forgetting" in output
    for name in ("summary.json", "matrix.json", "stages/01-count/weights.safetensors", "figures/matrix.png"):
        assert (config.parent / "run" / name).exists()
    (lost,) = [one for one in read_flips(config.parent / "run", ["regression"]) if one.critical]
    assert (lost.direction, lost.before, lost.cause) == ("lost", lost.gold, "content")
    assert lost.after in errors and lost.before in errors


def test_a_finished_run_that_is_resumed_ends_with_3_again(config: Path, fitted: tuple[int, str, str]) -> None:
    before = contents(config.parent / "run")
    code, _, errors = command("fit", "--config", config, "--ckpt_path", "last")
    assert code == 3
    assert "regression/row 0" in errors
    assert contents(config.parent / "run") == before


def test_validate_compares_a_stage_with_the_runs_base_model(
    config: Path, fitted: tuple[int, str, str]
) -> None:
    code, output, errors = command("validate", "--run", config.parent / "run", "--stage", 1)
    assert code == 3
    assert "regression/row 0" in errors
    assert "after 01-count" in output
    assert command("validate", "--run", config.parent / "run", "--stage", 0)[::2] == (0, "")


def test_validate_with_nothing_to_compare_says_so_and_ends_well(config: Path, tmp_path: Path) -> None:
    code, _, errors = command("validate", "--config", config, "--run", tmp_path / "other")
    assert code == 0
    assert "1 critical row has no answer of the base model" in errors


@pytest.mark.parametrize("name", ["fit", "validate"])
def test_help_tells_the_exit_code(name: str) -> None:
    assert "Exit code 3" in " ".join(command(name, "--help")[1].split())
    assert "3 a row marked critical" in command("--help")[1]


def test_rows_that_were_gained_or_are_not_critical_give_0_and_long_lists_are_cut() -> None:
    def one(i: int, direction: Any = "lost", critical: bool = True) -> FlippedExample:
        return FlippedExample("t", f"r{i}", direction, "[b]", "[b]", "x", 1.0, 0.0, "content", critical)

    said = io.StringIO()
    console = Console(file=said, width=100)
    assert critical_exit([one(0, "gained"), one(1, critical=False)], console) == 0
    assert said.getvalue() == ""
    assert critical_exit([one(i) for i in range(25)], console) == 3
    assert "25 critical rows were" in said.getvalue()
    assert "'[b]' -> 'x', gold '[b]' (content)" in said.getvalue()
    assert said.getvalue().count("t/r") == 20 and "and 5 more" in said.getvalue()
