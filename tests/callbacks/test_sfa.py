"""SFA: its limits are WiSE-FT and proximal L2-SP, and it merges at the steps it says."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from safetensors.torch import load_file
from torch import Tensor
from torch.optim import SGD
from transformers import AutoModelForImageTextToText
from typing_extensions import override

from lmmcl import ContinualLMM, StageCallback, TaskSequenceDataModule
from lmmcl.callbacks import SFA, WiSEFT
from lmmcl.errors import UserError
from tests.callbacks.laws import STAGES, law_fit, law_weights
from tests.toy import toy_module, toy_task, toy_trainer


def test_p_one_is_wise_ft_byte_for_byte(tiny: Path, tmp_path: Path) -> None:
    law_fit(tiny, tmp_path / "sfa", [SFA(beta=0.3, p=1.0)])
    law_fit(tiny, tmp_path / "wise", [WiSEFT(alpha=0.3, measure_before=False)])
    mine, other = law_weights(tmp_path / "sfa"), law_weights(tmp_path / "wise")
    for stage in STAGES:
        assert all(torch.equal(tensor, other[stage][name]) for name, tensor in mine[stage].items())


def test_one_step_of_sgd_is_a_step_of_proximal_l2_sp(tiny: Path, tmp_path: Path) -> None:
    """With λ = β / (η (1 − β)), the step ends where g·θ + ‖θ − θ₀‖² / 2η + (λ/2) ‖θ − θ₀‖² is least."""
    rate, beta = 0.1, 0.3
    gradients: dict[str, Tensor] = {}

    class Descent(ContinualLMM):
        @override
        def configure_optimizers(self) -> Any:
            chosen = self.trained_parameters().values()
            return SGD(chosen, lr=rate) if self.task else super().configure_optimizers()

    class Look(StageCallback):
        @override
        def on_before_optimizer_step(
            self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
        ) -> None:
            assert isinstance(pl_module, ContinualLMM)
            for name, parameter in pl_module.trained_parameters().items():
                assert parameter.grad is not None
                gradients[name] = parameter.grad.clone()

    data = TaskSequenceDataModule([toy_task("first", 0, max_train_samples=8)], batch_size=8)
    trainer = toy_trainer(callbacks=[Look(), SFA(beta, p=0.25)], gradient_clip_val=None)
    trainer.fit(Descent(str(tiny), run=tmp_path), data)
    strength = beta / (rate * (1 - beta))
    base = AutoModelForImageTextToText.from_pretrained(tiny).state_dict()
    found = load_file(tmp_path / "stages" / "01-first" / "weights.safetensors")
    for name, tensor in found.items():
        nearest = (base[name] - rate * gradients[name] + rate * strength * base[name]) / (1 + rate * strength)
        torch.testing.assert_close(tensor, nearest)


@pytest.mark.parametrize(
    ("p", "merges"),
    [(0.25, [2, 4, 6, 8]), (0.5, [4, 8]), (0.4, [3, 6, 8]), (1.0, [8]), (0.01, [1, 2, 3, 4, 5, 6, 7, 8])],
)
def test_it_merges_every_share_of_the_steps_and_after_the_last(
    p: float, merges: list[int], tiny: Path, tmp_path: Path
) -> None:
    """With β = 1 a merge is a return to the base model."""
    base = AutoModelForImageTextToText.from_pretrained(tiny).state_dict()
    back: list[int] = []

    class Look(StageCallback):
        @override
        def on_train_batch_end(
            self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            assert isinstance(pl_module, ContinualLMM)
            now = pl_module.trained_parameters()
            if all(torch.equal(parameter, base[name]) for name, parameter in now.items()):
                back.append(trainer.global_step)

    data = TaskSequenceDataModule(
        [toy_task("first", 0, max_train_samples=16)], batch_size=2, micro_batch_size=1
    )
    toy_trainer(callbacks=[SFA(1.0, p), Look()]).fit(toy_module(tiny, tmp_path), data)
    # The first micro-batch of a step leaves the weights as they were: step 0 is the base model.
    assert sorted(set(back)) == [0, *merges]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"beta": 1.5}, r"SFA.beta must lie in \[0, 1\], got 1.5"),
        ({"p": 0.0}, r"SFA.p must lie in \(0, 1\], got 0.0"),
    ],
)
def test_a_value_out_of_range_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        SFA(**options)
