"""EWC against the closed form on a quadratic, and its Fisher information against a slow reference."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForImageTextToText
from typing_extensions import override

from lmmcl import ContinualLMM, StageCallback, Task
from lmmcl.callbacks import EWC
from lmmcl.data.batches.batch import IGNORED
from lmmcl.errors import UserError
from tests.callbacks.laws import law_fit


def remembering(ewc: EWC, memories: list[tuple[Tensor, Tensor]]) -> EWC:
    """EWC of one parameter ``w`` with these θ* and F."""
    for number, (anchor, fisher) in enumerate(memories, start=1):
        ewc.tensors |= {f"{number}/anchor/w": anchor, f"{number}/fisher/w": fisher}
    ewc.load_state_dict({"memories": len(memories)})
    return ewc


@pytest.mark.parametrize("tasks", [1, 2])
def test_on_a_quadratic_loss_it_ends_at_the_closed_form_minimum(tasks: int) -> None:
    """½ (θ − a)ᵀ H (θ − a) + (λ/2) Σ_k F_k (θ − θ_k)² is least at (H + λ Σ F_k)⁻¹ (H a + λ Σ F_k θ_k)."""
    random, strength = torch.Generator().manual_seed(tasks), 3.0

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    root, goal = numbers(4, 4), numbers(4)
    curvature = root @ root.T + torch.eye(4)
    memories = [(numbers(4), numbers(4).square()) for _ in range(tasks)]
    ewc = remembering(EWC(weight=strength), memories)
    values = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([values], max_iter=200, tolerance_grad=1e-12, tolerance_change=0)

    def loss() -> Tensor:
        optimizer.zero_grad()
        penalty = ewc.weight_penalty("w", values)
        assert penalty is not None
        total = (values - goal) @ curvature @ (values - goal) / 2 + penalty
        total.backward()
        return total

    optimizer.step(loss)
    left = curvature + strength * torch.diag(torch.stack([fisher for _, fisher in memories]).sum(0))
    right = curvature @ goal + strength * sum(fisher * anchor for anchor, fisher in memories)
    torch.testing.assert_close(values.detach(), torch.linalg.solve(left, right))


def reference_fisher(checkpoint: Path, weights: Path, module: Any, names: set[str]) -> dict[str, Tensor]:
    """A second whole model with full logits, one sample after the other."""
    model: Any = AutoModelForImageTextToText.from_pretrained(checkpoint, attn_implementation="eager").eval()
    model.load_state_dict(load_file(weights), strict=False)
    parameters = {name: p for name, p in model.named_parameters() if name in names}
    rows = module.data.train_rows(0)
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for row in rows:
        batch = module.data.collator.train([row])
        logits = model(**batch.inputs).logits[:, :-1].flatten(0, 1)
        loss = functional.cross_entropy(
            logits, batch.labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
        )
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        for name, gradient in zip(parameters, gradients, strict=True):
            total[name] += gradient.square() / len(rows)
    return total


def test_the_fisher_information_is_the_mean_of_the_squares_of_each_samples_gradient(
    tiny: Path, tmp_path: Path
) -> None:
    ewc = EWC(batches=3)  # all twelve rows
    module = law_fit(tiny, tmp_path, [ewc], kill_at=3)
    weights = tmp_path / "stages" / "01-first" / "weights.safetensors"
    found = {key.split("/")[-1]: t for key, t in ewc.tensors.items() if "/fisher/" in key}
    assert found.keys() == load_file(weights).keys()
    for name, expected in reference_fisher(tiny, weights, module, set(found)).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-3, atol=1e-8)
    assert all(torch.equal(ewc.tensors[f"1/anchor/{name}"], t) for name, t in load_file(weights).items())


def test_online_with_gamma_zero_remembers_the_last_task_only(tiny: Path, tmp_path: Path) -> None:
    """The second task trains other tensors than the first: after it, those of the first are free."""
    faded, kept = EWC(weight=1e-9, gamma=0.0, batches=1), EWC(weight=1e-9, batches=1)
    for name, ewc in {"faded": faded, "kept": kept}.items():
        law_fit(tiny, tmp_path / name, [ewc], kill_at="end")
    # Killed after the end of the third task: its memory is the third.
    assert {key.split("/")[0] for key in kept.tensors} == {"1", "2", "3"}
    last = {key.replace("3/", "1/", 1): t for key, t in kept.tensors.items() if key.startswith("3/")}
    assert faded.tensors.keys() == last.keys()
    for key, tensor in last.items():
        assert torch.equal(faded.tensors[key], tensor), key


def test_online_adds_to_what_faded_and_keeps_one_anchor(tiny: Path, tmp_path: Path) -> None:
    online, kept = EWC(weight=1e-9, gamma=0.5, batches=1), EWC(weight=1e-9, batches=1)
    for name, ewc in {"online": online, "kept": kept}.items():
        law_fit(tiny, tmp_path / name, [ewc], kill_at="end")
    for key, tensor in online.tensors.items():
        _, kind, name = key.split("/")
        memories = {
            k: kept.tensors[f"{k}/{kind}/{name}"] for k in (1, 2, 3) if f"{k}/{kind}/{name}" in kept.tensors
        }
        expected = memories[3] if kind == "anchor" else sum(0.5 ** (3 - k) * t for k, t in memories.items())
        assert len(memories) == 2
        torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-12)


def test_a_task_that_shares_nothing_with_the_past_is_named(tiny: Path, tmp_path: Path) -> None:
    said: list[str] = []

    class Listen(StageCallback):
        @override
        def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
            module.sequence.report_notice = said.append

    law_fit(tiny, tmp_path, [Listen(), EWC(batches=1)], kill_at=4)
    assert "EWC does nothing in second: no task before it trained what it trains." in said


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"weight": -1.0}, "EWC.weight must be at least 0, got -1.0"),
        ({"gamma": 1.5}, r"EWC.gamma must lie in \[0, 1\] or be null, got 1.5"),
        ({"batches": 0}, "EWC.batches must be at least 1, got 0"),
    ],
)
def test_a_value_out_of_range_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        EWC(**options)
