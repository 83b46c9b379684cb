"""Drawing rows, and means over samples: what counts, and what is left behind. EWC and MAS test the numbers."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from typing_extensions import override

from lmmcl import ContinualLMM, StageCallback, Task
from lmmcl.errors import UserError
from lmmcl.losses import cross_entropy
from lmmcl.outputs.token_outputs import TokenOutputs
from lmmcl.probing.calibration import draw_rows, mean_over_samples
from tests.toy import toy_data, toy_module, toy_trainer


class Enough(Exception):  # noqa: N818 - not an error: the test has seen what it wanted
    """Ends a run."""


def at_start(tiny: Path, run: Path, look: Callable[[ContinualLMM], None]) -> None:
    """Looks at a module with its first task in place."""

    class Look(StageCallback):
        @override
        def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
            look(module)
            raise Enough

    with pytest.raises(Enough):
        toy_trainer(callbacks=[Look()]).fit(toy_module(tiny, run), toy_data(on_too_long="drop"))


def loss(outputs: TokenOutputs) -> torch.Tensor:
    return outputs.map(cross_entropy).sum()


def test_a_draw_is_fixed_without_replacement_and_depends_on_its_purpose(tiny: Path, tmp_path: Path) -> None:
    def look(module: ContinualLMM) -> None:
        rows = module.data.train_rows(0)
        drawn = [[row.id for row in draw_rows(module, rows, 8, purpose)] for purpose in ("a", "a", "b")]
        assert drawn[0] == drawn[1] != drawn[2]
        assert len(set(drawn[0])) == 8
        assert [row.id for row in draw_rows(module, rows, 1000, "a")] == [row.id for row in rows]

    at_start(tiny, tmp_path, look)


def test_the_model_is_left_as_it_was_found(tiny: Path, tmp_path: Path) -> None:
    def look(module: ContinualLMM) -> None:
        mean_over_samples(module, module.data.train_rows(0)[:2], loss, torch.square)
        assert all(parameter.grad is None for parameter in module.model.parameters())
        assert all(part.training for part in module.model.modules())

    at_start(tiny, tmp_path, look)


def test_a_row_that_does_not_fit_does_not_count(tiny: Path, tmp_path: Path) -> None:
    def look(module: ContinualLMM) -> None:
        collator, rows = module.data.collator, list(module.data.train_rows(0)[:6])
        lengths = [int(collator.train([row]).inputs["attention_mask"].sum()) for row in rows]
        collator.max_length = max(lengths) - 1
        fitting = [row for row, length in zip(rows, lengths, strict=True) if length < max(lengths)]
        assert 0 < len(fitting) < len(rows)
        found, expected = (mean_over_samples(module, part, loss, torch.square) for part in (rows, fitting))
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor)
        collator.max_length = 1
        with pytest.raises(
            UserError, match="none of the rows to measure gradients on has an answer that fits"
        ):
            mean_over_samples(module, rows, loss, torch.square)

    at_start(tiny, tmp_path, look)
