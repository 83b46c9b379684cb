"""L2-SP against EWC with F = 1 and against its formula."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from typing_extensions import override

from lmmcl import ContinualLMM, Task
from lmmcl.callbacks import EWC, L2SP
from lmmcl.errors import UserError
from tests.callbacks.laws import STAGES, law_fit, law_weights


class OfOnes(EWC):
    """EWC that remembers the base model, with F = 1 everywhere, and nothing else."""

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        self._memories = 1
        for name, anchor in module.anchor().items():
            self.tensors.setdefault(f"1/anchor/{name}", anchor)
            self.tensors.setdefault(f"1/fisher/{name}", torch.ones_like(anchor))

    @override
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        """Measures nothing."""


def test_it_is_ewc_with_a_fisher_information_of_one(tiny: Path, tmp_path: Path) -> None:
    law_fit(tiny, tmp_path / "l2", [L2SP(alpha=0.3)])
    law_fit(tiny, tmp_path / "ewc", [OfOnes(weight=0.3)])
    mine, other = law_weights(tmp_path / "l2"), law_weights(tmp_path / "ewc")
    for stage in STAGES:
        assert all(torch.equal(tensor, other[stage][name]) for name, tensor in mine[stage].items())


def test_the_penalty_is_half_alpha_times_the_squared_distance() -> None:
    l2sp = L2SP(alpha=0.5)
    l2sp.tensors = {"w": torch.tensor([1.0, 2.0])}
    values = torch.tensor([3.0, -1.0], requires_grad=True)
    penalty = l2sp.weight_penalty("w", values)
    assert penalty is not None and penalty.item() == 0.25 * (4 + 9)
    penalty.backward()
    assert values.grad is not None and values.grad.tolist() == [0.5 * 2, 0.5 * -3]


def test_the_anchor_stays_the_base_model_in_every_task(tiny: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText

    l2sp = L2SP(alpha=0.3)
    law_fit(tiny, tmp_path, [l2sp])
    base = AutoModelForImageTextToText.from_pretrained(tiny).state_dict()
    assert l2sp.tensors.keys() == law_weights(tmp_path)[STAGES[-1]].keys()
    assert all(torch.equal(tensor, base[name]) for name, tensor in l2sp.tensors.items())


@pytest.mark.parametrize("alpha", [-1.0, float("nan")])
def test_an_alpha_out_of_range_is_named(alpha: float) -> None:
    with pytest.raises(UserError, match=r"trainer.callbacks: L2SP.alpha must be at least 0, got"):
        L2SP(alpha=alpha)
