"""SI: the path integral adds up to the drop of the loss, and importance follows its formula."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.optim import SGD
from typing_extensions import override

from lmmcl import ContinualLMM, Task, TaskSequenceDataModule
from lmmcl.callbacks import SI
from lmmcl.callbacks.si import consolidated
from lmmcl.errors import UserError
from lmmcl.losses import cross_entropy
from tests.toy import toy_task, toy_trainer


class Descent(ContinualLMM):
    """Plain gradient descent at a constant rate."""

    @override
    def configure_optimizers(self) -> Any:
        return (
            SGD(self.trained_parameters().values(), lr=1e-3) if self.task else super().configure_optimizers()
        )


def test_the_path_integral_adds_up_to_the_drop_of_the_loss(tiny: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    paths: list[float] = []

    class Watch(SI):
        def measure(self, module: ContinualLMM) -> None:
            batch = module.data.collator.train(module.data.train_rows(0))
            with torch.no_grad():
                losses.append(float(module.token_outputs(batch).map(cross_entropy).mean()))

        @override
        def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
            super().on_task_start(trainer, module, task)
            self.measure(module)

        @override
        def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
            self.measure(module)
            paths.append(
                float(sum(t.double().sum() for k, t in self.tensors.items() if k.startswith("path/")))
            )
            super().on_task_end(trainer, module, task)

    # All rows in every step: the loss that falls is the one that is measured.
    data = TaskSequenceDataModule([toy_task("first", 0, max_train_samples=8, epochs=10)], batch_size=8)
    module = Descent(str(tiny), run=tmp_path, recipe="llm", checkpoint_every_n_steps=100)
    # Clipping changes the step and not the gradient of the integral; so do penalties.
    toy_trainer(callbacks=[Watch()], gradient_clip_val=0.5).fit(module, data)
    assert losses[0] - losses[1] > 1e-3
    assert paths[0] == pytest.approx(losses[0] - losses[1], rel=0.03)


def test_importance_is_the_path_over_the_squared_way_and_never_below_zero() -> None:
    importance, path = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([0.5, -9.0, 0.25])
    moved = torch.tensor([2.0, 1.0, 0.0])
    expected = [1.0 + 0.5 / (4.0 + 0.5), 0.0, 0.25 / 0.5]
    torch.testing.assert_close(consolidated(importance, path, moved, 0.5), torch.tensor(expected))


def test_the_penalty_is_c_times_importance_times_the_squared_distance() -> None:
    si = SI(weight=0.5)
    si.tensors = {"anchor/w": torch.tensor([1.0, 2.0]), "importance/w": torch.tensor([0.5, 3.0])}
    penalty = si.weight_penalty("w", torch.tensor([3.0, 1.0], requires_grad=True))
    assert penalty is not None and penalty.item() == 0.5 * (0.5 * 4 + 3.0 * 1)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"weight": -1.0}, "SI.weight must be at least 0"), ({"damping": 0.0}, "SI.damping must be above 0")],
)
def test_a_value_out_of_range_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        SI(**options)
