"""The YAML of what both models are asked: the forms of `lmmcl fit`, and mistakes named with the nearest word."""

import json
from pathlib import Path

import pytest

from lmmcl.data.questions import read_questions
from lmmcl.errors import UserError
from tests.audit.broken import rows_of


def written(folder: Path, text: str) -> Path:
    path = folder / "eval.yaml"
    path.write_text(text)
    return path


def test_targets_and_held_out_are_read_and_measured_as_a_run_measures(tmp_path: Path) -> None:
    path = written(tmp_path, "targets: [count]\nheld_out: [chart, {task: caption}]\nmax_eval_samples: 3\n")
    found = read_questions(path)
    assert [task.name for task in found.targets] == ["count"]
    assert [task.name for task in found.held_out] == ["chart", "caption"]
    assert [len(found.rows(task, "test")) for task in found.tasks] == [3, 3, 3]
    assert found.without_dev() == []


def test_there_need_be_no_target(tmp_path: Path) -> None:
    assert read_questions(written(tmp_path, "held_out: [chart]")).targets == []


def test_a_config_of_a_run_will_do_and_its_training_rows_stay_out(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, rows_of(200, "mine"))))
    spec = f"{{task: mine, path: {file}}}"
    as_run = read_questions(
        written(
            tmp_path,
            f"model: {{path: mini, lr: 1e-4}}\nrun: x\ndata: {{tasks: [{spec}], held_out: [chart], batch_size: 4}}",
        )
    )
    only_measured = read_questions(written(tmp_path, f"targets: [{spec}]\nheld_out: [chart]"))
    task = as_run.targets[0]
    trained = {row.id for row in task.source.split("train")}
    tested = {row.id for row in as_run.rows(task, "test")}
    assert trained and tested and not trained & tested
    parts = [only_measured.rows(only_measured.targets[0], part) for part in ("dev", "test")]
    assert sum(map(len, parts)) == 200


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("held_out: [chart]\ntarget: [count]", "unknown key 'target'; did you mean 'targets'"),
        (
            "model: {path: mini}\ndata: {held_outs: [chart]}",
            "unknown key 'held_outs'; did you mean 'held_out'",
        ),
        ("modle: {}\ndata: {held_out: [chart]}", "unknown key 'modle'; did you mean 'model'"),
        ("targets: [count]", "held_out must list at least one task"),
        ("held_out: chart", "held_out must be a list, got 'chart'; write [chart]"),
        ("held_out: [chrt]", "there is no task 'chrt'; did you mean 'chart'"),
        ("targets: [count]\nheld_out: [count]", "count is a target"),
        ("targets: [count, count]\nheld_out: [chart]", "named once, got count 2 times"),
        ("targets: [count]\ntasks: [clock]\nheld_out: [chart]", "must list its targets once"),
        (
            "held_out: [chart]\nmax_eval_samples: none",
            "max_eval_samples must be a whole number from 1, got 'none'",
        ),
        ("held_out: [chart]\nscoring: strict", "scoring must be 'robust' or 'lmms-eval'"),
        ("- chart", "must hold keys"),
        ("held_out: [", "is no valid YAML"),
        ("data: [chart]", "data must be a mapping of keys"),
    ],
)
def test_a_mistake_is_named_with_the_way_out(text: str, part: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read_questions(written(tmp_path, text))
    assert part in str(error.value)


def test_weights_are_chosen_on_training_rows_or_else_on_dev_rows(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, rows_of(200, "mine"))))
    spec = f"{{task: mine, path: {file}}}"
    for text, part in ((f"targets: [{spec}]", "dev"), (f"tasks: [{spec}]", "train")):
        found = read_questions(written(tmp_path, text), held_out_needed=False)
        drawn = [row.id for row in found.calibration(5, 0, "purpose")]
        allowed = [row.id for row in found.targets[0].source.split(part)]  # type: ignore[arg-type]  # a part's name
        assert len(drawn) == 5 and set(drawn) <= set(allowed)
        assert drawn == [row.id for row in found.calibration(5, 0, "purpose")]
        assert drawn != [row.id for row in found.calibration(5, 1, "purpose")]
        every = [row.id for row in found.calibration(10**6, 0, "purpose")]
        assert every == allowed
    both = read_questions(written(tmp_path, f"tasks: [{spec}, count]"), held_out_needed=False)
    shares = [len(task.source.split("train")) for task in both.targets]
    counted = sum(row.id.startswith("count") for row in both.calibration(40, 0, "purpose"))
    assert counted == round(40 * shares[1] / sum(shares))


def test_how_rows_are_read_and_scored_is_known_of_the_questions(tmp_path: Path) -> None:
    text = f"held_out: [chartqa]\nscoring: lmms-eval\non_bad_row: drop\nroot: {tmp_path}\n"
    data = read_questions(written(tmp_path, text)).data
    assert (data.scoring, data.on_bad_row, data.settings.root) == ("lmms-eval", "drop", str(tmp_path))
    assert read_questions(written(tmp_path, "held_out: [chart]")).data.scoring == "robust"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        read_questions(tmp_path / "none.yaml")
