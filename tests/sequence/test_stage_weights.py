"""A stage's weights in a model that is to be measured: from Python, and only where they belong."""

from pathlib import Path
from typing import Literal

import pytest
from lightning.pytorch import Trainer

from lmmcl import ContinualLMM, TaskSequenceDataModule
from lmmcl.callbacks import HeldOutEvaluation
from lmmcl.errors import UserError
from lmmcl.sequence.stage_weights import StageWeights
from tests.tiny import tiny_checkpoint
from tests.tiny_run import TinyRun


def measure(
    tiny: Path, finished: TinyRun, folder: Path, stage: int | None, part: Literal["test", "dev"] = "test"
) -> ContinualLMM:
    word = {"task": "word", "max_train_samples": 6, "recipe": "mlp_gate_up"}
    data = TaskSequenceDataModule(["count", word], ["chart", "caption"], max_eval_samples=5)
    module = ContinualLMM(str(tiny), run=folder)
    trainer = Trainer(
        callbacks=[HeldOutEvaluation(part=part), StageWeights(finished.path, stage)],
        precision="32-true",
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
    )
    trainer.validate(module, datamodule=data, verbose=False)
    return module


def test_a_stage_measured_from_python_answers_as_it_did(
    tiny: Path, finished: TinyRun, tmp_path: Path
) -> None:
    for stage, name in ((None, "02-word"), (0, "00-base")):
        measure(tiny, finished, tmp_path, stage)
        for task in ("count", "chart"):
            again = tmp_path / "predictions" / name / f"{task}.jsonl"
            assert again.read_bytes() == (finished.path / "predictions" / name / f"{task}.jsonl").read_bytes()


def test_rows_of_another_part_are_not_set_beside_those_of_the_run(
    tiny: Path, finished: TinyRun, tmp_path: Path
) -> None:
    expected: dict[Literal["test", "dev"], bool] = {"test": True, "dev": False}
    for part, cells in expected.items():
        module = measure(tiny, finished, tmp_path / part, None, part)
        earlier = [row for row in module.sequence.matrix.finals if row.index < 2]
        assert [bool(row.cells) for row in earlier] == [cells, cells]


def test_a_stage_of_another_model_is_refused(finished: TinyRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the model is not that of 01-count"):
        measure(tiny_checkpoint(tmp_path / "other", seed=3), finished, tmp_path / "run", 1)


def test_a_stage_that_there_is_not_is_named_at_once(finished: TinyRun) -> None:
    with pytest.raises(UserError, match="must hold stage 5"):
        StageWeights(finished.path, 5)
