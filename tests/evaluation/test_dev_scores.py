"""Scores on dev are those of the matrix on the same rows, leave no trace, and end a run that was asked to stop."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from lightning.pytorch import Trainer
from typing_extensions import override

from lmmcl import ContinualLMM, StageCallback, Task, TaskSequenceDataModule
from lmmcl.callbacks import HeldOutEvaluation
from lmmcl.data.row import Row
from lmmcl.errors import UserError
from lmmcl.evaluation.dev_scores import dev_scores, dev_tasks, require_dev
from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.predictions import PredictionStore
from lmmcl.evaluation.result import TaskResult
from tests.toy import SIZES, ToySource, toy_data, toy_module, toy_task, toy_trainer


class Chooser(StageCallback):
    """Scores the weights at the end of each task, and of the base."""

    def __init__(self, stop_in: str = "", samples: int | None = None) -> None:
        super().__init__()
        self._stop_in = stop_in
        self._samples = samples
        self.found: list[dict[str, TaskResult]] = []

    def _score(self, module: ContinualLMM) -> None:
        tasks = [*module.data.tasks, *module.data.held_out]
        self.found.append(dev_scores(module, tasks, batch_size=4, samples=self._samples))

    @override
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if task.name == self._stop_in:
            module.sequence.stop.requested = True
        self._score(module)

    @override
    def on_stage_end(self, trainer: Trainer, module: ContinualLMM, task: Task | None, scores: object) -> None:
        if task is None:
            self._score(module)


def test_they_are_the_scores_of_the_matrix_on_the_same_rows(tiny: Path, tmp_path: Path) -> None:
    chooser, matrix = Chooser(), HeldOutEvaluation(batch_size=4, canary_every_n_steps=0, part="dev")
    toy_trainer(callbacks=[chooser, matrix]).fit(toy_module(tiny, tmp_path), toy_data())
    rows, store = Matrix.load(tmp_path / "matrix.json").finals, PredictionStore(tmp_path / "predictions")
    assert len(rows) == len(chooser.found) == 3
    for row, found in zip(rows, chooser.found, strict=True):
        assert {name: cell.score for name, cell in row.cells.items()} == {n: r.mean for n, r in found.items()}
        assert {cell.n for cell in row.cells.values()} == {SIZES["dev"]}
        assert {name: store.read(row.name, name) for name in found} == found


def test_they_write_nothing(tiny: Path, tmp_path: Path) -> None:
    def files(name: str, *callbacks: StageCallback) -> dict[str, bytes]:
        run = tmp_path / name
        toy_trainer(callbacks=list(callbacks)).fit(toy_module(tiny, run), toy_data())
        found = {path.relative_to(run): path for path in run.rglob("*") if path.is_file()}
        return {
            str(short): path.read_bytes()
            for short, path in found.items()
            if "last" not in short.parts and short.name not in ("config.json", "timing.csv", "cost.csv")
        }

    assert files("with", Chooser(samples=2)) == files("without")


def test_asked_to_stop_the_run_ends_and_goes_on_where_it_was(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="143"):
        toy_trainer(callbacks=[Chooser("first")]).fit(toy_module(tiny, tmp_path), toy_data())
    again = Chooser()
    toy_trainer(callbacks=[again]).fit(toy_module(tiny, tmp_path, resume=True), toy_data())
    assert len(again.found) == 2 and (tmp_path / "stages" / "02-second").exists()


class WithoutDev(ToySource):
    @override
    def split(self, name: str) -> Sequence[Row]:
        return [] if name == "dev" else super().split(name)


def test_tasks_to_choose_by_are_held_out_ones_with_dev_rows_unless_named() -> None:
    bare = Task(name="bare", source=WithoutDev(3), scorer=toy_task("x", 0).scorer, max_new_tokens=4)
    data = TaskSequenceDataModule([toy_task("first", 0)], [toy_task("held", 2), bare], batch_size=8)
    assert [task.name for task in dev_tasks(data, None, "X.held_out")] == ["held"]
    assert [task.name for task in dev_tasks(data, ["first"], "X.held_out")] == ["first"]
    require_dev(data.tasks, "X.alpha")
    with pytest.raises(UserError, match=r"X.alpha: bare has no rows for dev"):
        require_dev(data.held_out, "X.alpha")
    with pytest.raises(UserError, match=r"X.held_out must name tasks .* got 'hold' beside first, held, bare"):
        dev_tasks(data, ["hold"], "X.held_out")
    with pytest.raises(UserError, match=r"X.held_out: bare has no rows for dev"):
        dev_tasks(data, ["bare"], "X.held_out")
    with pytest.raises(UserError, match=r"X.held_out needs at least one task with rows for dev"):
        dev_tasks(TaskSequenceDataModule([toy_task("first", 0)], [bare], batch_size=8), None, "X.held_out")
