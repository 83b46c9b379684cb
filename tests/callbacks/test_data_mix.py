"""Data-hybrid training: what is trained holds the ratio; the counts are in tests/data/batches/test_mixing.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from lmmcl import TaskSequenceDataModule
from lmmcl.callbacks import DataMix
from lmmcl.data.batches.batch import Batch
from lmmcl.data.batches.collate import FILLER_ID
from lmmcl.errors import UserError
from tests.toy import toy_module, toy_task, toy_trainer


class Seen(Callback):
    """The ids of every optimizer step."""

    def __init__(self) -> None:
        self.steps: list[list[str]] = []

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.steps.append([])
        self.steps[-1] += [name for name in batch.ids if name != FILLER_ID]


def fit(checkpoint: Path, run: Path, mixes: Sequence[Callback], **options: Any) -> list[list[str]]:
    tasks = [toy_task("first", 0, max_train_samples=12), toy_task("second", 1, max_train_samples=12)]
    seen = Seen()
    data = TaskSequenceDataModule(tasks, batch_size=4, **options)
    toy_trainer(callbacks=[*mixes, seen]).fit(toy_module(checkpoint, run), data)
    return seen.steps


@pytest.mark.parametrize("grouped", [True, False])
def test_every_step_that_is_trained_holds_the_ratio_and_every_row_is_seen(
    tiny: Path, tmp_path: Path, grouped: bool
) -> None:
    general = {"task": "attributes", "max_train_samples": 6}
    steps = fit(tiny, tmp_path, [DataMix(general)], micro_batch_size=3, group_by_length=grouped)
    assert len(steps) == 2 * 6
    assert all(sum(name.startswith("attributes/") for name in ids) == len(ids) / 2 == 2 for ids in steps)
    for task, of_task in enumerate((steps[:6], steps[6:])):
        own = [name for ids in of_task for name in ids if name.startswith(f"toy-{task}-")]
        other = [name for ids in of_task for name in ids if name.startswith("attributes/")]
        assert len(set(own)) == len(own) == 12
        assert len(set(other)) == 6 and all(other.count(name) == 2 for name in other)


def test_matched_rows_repeat_no_row_and_are_drawn_anew_for_every_task(tiny: Path, tmp_path: Path) -> None:
    steps = fit(tiny, tmp_path, [DataMix(["general", "posters"], ratio=0.25, max_samples="match")])
    assert len(steps) == 2 * 4
    assert all(sum(not name.startswith("toy") for name in ids) == 1 for ids in steps)
    ids = [name for step in steps for name in step]
    assert len(set(ids)) == len(ids) == 32


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"ratio": 1.0}, "DataMix.ratio"),
        ({"ratio": -0.1}, "DataMix.ratio"),
        ({"ratio": float("nan")}, "DataMix.ratio"),
        ({"max_samples": 0}, "DataMix.max_samples"),
        ({"max_samples": "all"}, "DataMix.max_samples"),
    ],
)
def test_a_value_out_of_range_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        DataMix("general", **options)


def test_an_unknown_set_is_named_before_anything_starts(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"DataMix\.data: there is no task 'generl'.*general"):
        fit(tiny, tmp_path / "run", [DataMix("generl")])
    assert not (tmp_path / "run" / "last").exists()


def test_other_general_rows_are_another_run(tiny: Path, tmp_path: Path) -> None:
    fit(tiny, tmp_path, [DataMix({"task": "chart", "max_train_samples": 6})])
    data = TaskSequenceDataModule([toy_task("first", 0, max_train_samples=12)], batch_size=4)
    again = toy_module(tiny, tmp_path, resume=True)
    with pytest.raises(UserError, match="max_train_samples"):
        toy_trainer(callbacks=[DataMix({"task": "chart", "max_train_samples": 7})]).fit(again, data)
