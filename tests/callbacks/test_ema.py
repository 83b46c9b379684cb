"""EMA against a slow reference, and its rows of the matrix."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from typing_extensions import override

from lmmcl import ContinualLMM, StageCallback, Task
from lmmcl.callbacks import EMA, HeldOutEvaluation
from lmmcl.errors import UserError
from tests.callbacks.laws import STAGES, law_fit, law_weights
from tests.toy import toy_data, toy_module, toy_trainer


def test_a_stage_is_the_average_along_its_training_and_the_next_starts_there(
    tiny: Path, tmp_path: Path
) -> None:
    """The reference keeps all weights along the way and weighs them at the end: Σ a (1 − a)^(T − t) θ_t."""
    way: dict[str, list[dict[str, Tensor]]] = {}

    class Look(StageCallback):
        def keep(self, module: ContinualLMM) -> None:
            assert module.task is not None
            now = {n: p.detach().clone() for n, p in module.trained_parameters().items()}
            way.setdefault(module.task.name, []).append(now)

        @override
        def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
            self.keep(module)

        @override
        def on_train_batch_end(
            self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            assert isinstance(pl_module, ContinualLMM)
            self.keep(pl_module)

    a = 0.4
    law_fit(tiny, tmp_path, [EMA(a), Look()])
    stages = law_weights(tmp_path)
    for stage in STAGES:
        first, *steps = way[stage[3:]]
        assert len(steps) == 3
        for name, start in first.items():
            total = (1 - a) ** len(steps) * start
            total = total + sum(
                a * (1 - a) ** (len(steps) - t) * now[name] for t, now in enumerate(steps, start=1)
            )
            torch.testing.assert_close(stages[stage][name], total, rtol=1e-5, atol=1e-7)
    for name, start in way["third"][0].items():
        assert torch.equal(start, stages["02-second"][name])


def test_the_average_and_what_was_averaged_get_a_row_each(tiny: Path, tmp_path: Path) -> None:
    toy_trainer(callbacks=[HeldOutEvaluation(), EMA()]).fit(toy_module(tiny, tmp_path), toy_data())
    rows = json.loads((tmp_path / "matrix.json").read_text())["stages"]
    assert [(row["name"], row["variant"]) for row in rows] == [
        ("00-base", ""),
        ("01-first", "before EMA"),
        ("01-first", ""),
        ("02-second", "before EMA"),
        ("02-second", ""),
    ]


@pytest.mark.parametrize("rate", [-0.1, 1.5])
def test_a_rate_out_of_range_is_named(rate: float) -> None:
    with pytest.raises(UserError, match=rf"EMA.rate must lie in \[0, 1\], got {rate}"):
        EMA(rate=rate)
