"""MAS against the closed form of a linear function, inside a run and out of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from typing_extensions import override

from lmmcl import ContinualLMM, Task
from lmmcl.callbacks import MAS
from lmmcl.callbacks.mas import squared_norm
from lmmcl.data.batches.batch import IGNORED
from lmmcl.errors import UserError
from tests.callbacks.laws import law_fit


def test_the_gradient_of_the_squared_norm_of_a_linear_function_is_twice_the_outer_product() -> None:
    random = torch.Generator().manual_seed(0)
    weight, inputs = torch.randn(5, 3, generator=random), torch.randn(4, 3, generator=random)
    weight.requires_grad_()
    squared_norm(inputs @ weight.T, torch.zeros(4, dtype=torch.long)).sum().backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, 2 * sum(torch.outer(weight.detach() @ x, x) for x in inputs))


def test_in_a_run_it_is_the_mean_over_samples_of_the_size_of_each_samples_gradient(
    tiny: Path, tmp_path: Path
) -> None:
    """The reference is a whole second model with full logits, and autograd one sample at a time."""
    seen: dict[str, Tensor] = {}

    class Check(MAS):
        @override
        def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
            super().on_task_end(trainer, module, task)
            if task.name != "first":
                return
            reference: Any = type(module.model).from_pretrained(tiny, attn_implementation="eager").eval()  # type: ignore[attr-defined]  # transformers
            reference.load_state_dict(module.model.state_dict())
            rows = module.data.train_rows(0)
            parameters = {n: p for n, p in reference.named_parameters() if n in module.trained}
            for row in rows:
                batch = module.data.collator.train([row])
                assert batch.labels is not None
                logits = reference(**batch.inputs).logits[:, :-1][batch.labels[:, 1:] != IGNORED]
                gradients = torch.autograd.grad(logits.square().sum(), list(parameters.values()))
                for name, gradient in zip(parameters, gradients, strict=True):
                    seen[name] = seen.get(name, torch.zeros_like(gradient)) + gradient.abs() / len(rows)

    mas = Check(batches=3)  # all twelve rows
    law_fit(tiny, tmp_path, [mas], kill_at=3)
    assert seen and {key for key in mas.tensors if key.startswith("importance/")} == {
        f"importance/{name}" for name in seen
    }
    for name, expected in seen.items():
        torch.testing.assert_close(mas.tensors[f"importance/{name}"], expected, rtol=1e-3, atol=1e-5)


def test_the_penalty_is_lambda_times_importance_times_the_squared_distance() -> None:
    mas = MAS(weight=2.0)
    mas.tensors = {"anchor/w": torch.tensor([1.0, 2.0]), "importance/w": torch.tensor([0.5, 3.0])}
    penalty = mas.weight_penalty("w", torch.tensor([3.0, 1.0], requires_grad=True))
    assert penalty is not None and penalty.item() == 2.0 * (0.5 * 4 + 3.0 * 1)
    assert mas.weight_penalty("another", torch.zeros(2)) is None


@pytest.mark.parametrize(
    ("options", "named"),
    [({"weight": -1.0}, "MAS.weight must be at least 0"), ({"batches": 0}, "MAS.batches must be at least 1")],
)
def test_a_value_out_of_range_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        MAS(**options)
