"""A matrix that is damaged is made again from the answers of its run, or not at all."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from lmmcl.callbacks import HeldOutEvaluation, WiSEFT
from lmmcl.errors import UserError
from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.predictions import INDEX, PredictionStore
from lmmcl.evaluation.result import Example, TaskResult
from lmmcl.run.run_folder import RunFolder
from tests.tiny_run import TinyRun, command, contents
from tests.toy import toy_data, toy_module, toy_trainer
from tests.two_processes import Killed, KillerAtStep

MERGE = "My merge-2"


def result(task: str, *scores: float) -> TaskResult:
    examples = (Example(str(i), "", "", score, score != 0.25, {"x": 0.5}) for i, score in enumerate(scores))
    return TaskResult(task, tuple(examples))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two targets of which the second is being trained; ``zeta`` and ``alpha`` are measured by a callback alone."""
    matrix, store = Matrix(["a", "a-step-2"], ["b"]), PredictionStore(tmp_path / "predictions")
    rows = [(0, "00-base", ""), (1, "01-a", "step 2"), (1, "01-a", f"before {MERGE}"), (1, "01-a", "")]
    for place, (index, name, variant) in enumerate(rows):
        scores = [(task, place / 8, 0.25, 1.0) for task in ("a", "a-step-2", "b", "zeta", "alpha")]
        found = [result(*one) for one in scores]
        matrix.put(index, name, found, variant=variant)
        for one in found:
            store.write(f"{name} {variant}".strip().replace(" ", "-"), "key", one)
        if not variant:
            (tmp_path / "stages" / name).mkdir(parents=True)
            (tmp_path / "stages" / name / "lineage.json").write_text("{}")
    store.write("02-a-step-2-step-20", "key", result("a", 1.0))  # killed in the middle of measuring it
    data = {"tasks": [{"name": "a"}, {"name": "a-step-2"}], "held_out": [{"name": "b"}]}
    callbacks = [["lmmcl.callbacks.wise_ft.WiSEFT", {"name": MERGE}], ["lmmcl.callbacks.lwf.LwF", {}]]
    (tmp_path / "config.json").write_text(json.dumps({"data": data, "callbacks": callbacks}))
    matrix.save(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "{}", '{"targets": [], "held_out": [], "stages": [{}]}', "\0"]
)
def test_a_damaged_matrix_is_made_again_as_it_was(run: Path, damage: str, tmp_path: Path) -> None:
    expected, before = Matrix.load(run), (run / "matrix.json").read_bytes()
    (run / "matrix.json").write_text(damage)
    with pytest.warns(UserWarning, match=r"matrix\.json is damaged .* made again from the run's answers"):
        rebuilt = Matrix.load(run / "matrix.json")
    assert rebuilt == expected
    assert [row.title for row in rebuilt.stages][1:3] == ["01-a before My merge-2", "01-a step 2"]
    rebuilt.save(run)
    assert (run / "matrix.json").read_bytes() == before


@pytest.mark.parametrize("table", [None, b"\xff", b"task\nzeta\n"])
def test_without_its_table_only_the_order_of_columns_may_change(run: Path, table: bytes | None) -> None:
    expected = Matrix.load(run)
    (run / "matrix.json").write_text("")
    (run / "matrix.csv").unlink()
    if table is not None:
        (run / "matrix.csv").write_bytes(table)
    with pytest.warns(UserWarning, match="made again"):
        rebuilt = Matrix.load(run)
    assert rebuilt.stages == expected.stages
    assert rebuilt.held_out == (
        ["b", "zeta", "alpha"] if table and b"zeta" in table else ["b", "alpha", "zeta"]
    )


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def _of_another_version(file: Path) -> None:
    """Whole by its hash, with a field that nothing here knows."""
    data = file.read_bytes().replace(b"{", b'{"mood": 1, ', 1)
    file.write_bytes(data)
    index = json.loads((file.parent / INDEX).read_text())
    index[file.stem]["sha256"] = hashlib.sha256(data).hexdigest()
    (file.parent / INDEX).write_text(json.dumps(index))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "01-a/b.jsonl is damaged": lambda run: _cut(run / "predictions/01-a/b.jsonl"),
    "01-a/b.jsonl was written by another version": lambda run: _of_another_version(
        run / "predictions/01-a/b.jsonl"
    ),
    "00-base/b.jsonl is missing": lambda run: (run / "predictions/00-base/b.jsonl").unlink(),
    "01-a/index.json is missing or damaged": lambda run: _cut(run / "predictions/01-a" / INDEX),
    "01-a/index.json is damaged": lambda run: (run / "predictions/01-a" / INDEX).write_text("[]"),
    "b.jsonl is missing, or its index damaged": lambda run: (run / "predictions/01-a" / INDEX).write_text(
        '{"b": {}}'
    ),
    "01-a holds no answers": lambda run: shutil.rmtree(run / "predictions/01-a"),
    "03-c is the row of no stage": lambda run: shutil.copytree(
        run / "predictions/01-a", run / "predictions/03-c"
    ),
    "config.json is missing or damaged": lambda run: _cut(run / "config.json"),
    "config.json is damaged": lambda run: (run / "config.json").write_text('{"data": []}'),
}


@pytest.mark.parametrize("said", DAMAGES)
def test_where_the_answers_are_damaged_too_it_is_an_error_that_names_both(run: Path, said: str) -> None:
    DAMAGES[said](run)
    (run / "matrix.json").write_text("{")
    with pytest.raises(
        UserError, match=rf"matrix\.json is damaged .*cannot be made again .*{said}.* Put one of the"
    ):
        Matrix.load(run)


class _NoReport(HeldOutEvaluation):
    """Measures as it does, without figures, which take longer than the sequence."""

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing."""


def _fit(checkpoint: Path, run: Path, kill_at: int | None = None, resume: bool = False) -> None:
    callbacks: list[Callback] = [
        _NoReport(every_n_steps=2, canary_every_n_steps=0),
        WiSEFT(0.3),
        KillerAtStep(kill_at),
    ]
    with nullcontext() if kill_at is None else pytest.raises(Killed):
        toy_trainer(callbacks=callbacks).fit(
            toy_module(checkpoint, run, resume=resume), toy_data(max_eval_samples=2)
        )


def test_a_run_whose_matrix_is_damaged_or_lost_goes_on_to_the_same_bytes(tiny: Path, tmp_path: Path) -> None:
    _fit(tiny, tmp_path / "whole")
    _fit(tiny, tmp_path / "killed", kill_at=5)
    _cut(tmp_path / "killed" / "matrix.json")
    with pytest.warns(UserWarning, match="made again"):
        _fit(tiny, tmp_path / "killed", resume=True)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    (tmp_path / "killed" / "matrix.json").unlink()  # of a run that has ended
    with pytest.warns(UserWarning, match="made again"):
        _fit(tiny, tmp_path / "killed", resume=True)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_real_run_is_made_again_and_reported(finished: TinyRun, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished.path, run, symlinks=True)
    before = (run / "matrix.json").read_bytes()
    _cut(run / "matrix.json")
    with pytest.warns(UserWarning, match="made again"):
        Matrix.load(run).save(run)
    assert (run / "matrix.json").read_bytes() == before
    assert len(RunFolder(run).stages()) == 3
    _cut(run / "matrix.json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, _, errors = command("report", run, "--to", tmp_path / "page.html")
    assert code == 0 and (tmp_path / "page.html").exists(), errors
    assert "lmmcl: warning:" in errors and "matrix.json is damaged" in errors
