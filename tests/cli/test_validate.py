"""`lmmcl validate`: a stage measured again gives the answers of the run."""

from pathlib import Path

from tests.tiny import tiny_checkpoint
from tests.tiny_run import TinyRun, command


def predictions(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.jsonl")}


def test_a_stage_measured_again_gives_the_same_answers(finished: TinyRun) -> None:
    code, output, errors = command("validate", "--run", finished.path, "--stage", 1)
    assert (code, errors) == (0, "")
    again = finished.path / "validate" / "01-count"
    assert predictions(again / "predictions" / "01-count") == predictions(
        finished.path / "predictions" / "01-count"
    )
    assert len(predictions(again / "predictions" / "01-count")) == 4
    assert "after 01-count" in output
    assert "vs base" in output
    assert f"answers and scores: {again}" in output


def test_a_stage_can_be_measured_on_other_tasks_and_more_rows(finished: TinyRun) -> None:
    words = ["--data.held_out", "[diagram]", "--data.max_eval_samples", "3"]
    code, _, errors = command("validate", "--run", finished.path, *words)
    assert (code, errors) == (0, "")
    found = predictions(finished.path / "validate" / "02-word" / "predictions" / "02-word")
    assert sorted(found) == ["count.jsonl", "diagram.jsonl", "word.jsonl"]
    assert {data.count(b"\n") for data in found.values()} == {3}


def test_any_model_is_measured_by_its_config(finished: TinyRun, tmp_path: Path) -> None:
    code, output, errors = command("validate", "--config", finished.config, "--run", tmp_path / "other")
    assert (code, errors) == (0, "")
    assert "base model" in output
    found = predictions(tmp_path / "other" / "validate" / "00-base" / "predictions" / "00-base")
    assert found == predictions(finished.path / "predictions" / "00-base")


def test_another_model_is_refused(finished: TinyRun, tmp_path: Path) -> None:
    other = tiny_checkpoint(tmp_path / "other", seed=1)
    code, _, errors = command("validate", "--run", finished.path, "--stage", 1, "--model.path", other)
    assert code == 2
    assert "the model is not that of 01-count" in errors


def test_mistakes_are_named(finished: TinyRun, tmp_path: Path) -> None:
    for words, part in (
        (["--run", tmp_path], "holds no run that lmmcl fit wrote"),
        (["--run", finished.path, "--stage", "9"], "must hold stage 9, it holds 00-base, 01-count, 02-word"),
        (["--run", finished.path, "--stage", "last"], "--stage must be the number of a stage"),
        (["--config", finished.config, "--stage", "1"], "--stage needs the run it belongs to"),
    ):
        code, _, errors = command("validate", *words)
        assert code == 2
        assert part in errors
        assert errors.count("\n") == 1
