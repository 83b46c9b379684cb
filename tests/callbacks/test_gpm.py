"""GPM: what past tasks put into a layer comes out of it as before; and its limits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from typing_extensions import override

import lmmcl.sequence.task_sequence
from lmmcl import ContinualLMM, Task, TaskSequenceDataModule
from lmmcl.callbacks import GPM
from lmmcl.callbacks.gpm import extended, projected
from lmmcl.errors import UserError
from tests.callbacks.laws import law_fit, law_weights
from tests.toy import toy_module, toy_task, toy_trainer


def moments_of(inputs: Tensor) -> Tensor:
    """Of inputs (number, width)."""
    return inputs.T.double() @ inputs.double()


def spanned(basis: Tensor) -> Tensor:
    return basis.double() @ basis.double().T


def test_the_fewest_directions_that_hold_enough_energy_are_taken() -> None:
    moments = torch.diag(torch.tensor([1.0, 90.0, 9.0, 0.0])).double()
    for energy, directions in {
        0.5: [1],
        0.9: [1],
        0.91: [1, 2],
        0.99: [1, 2],
        0.995: [0, 1, 2],
        1.0: [0, 1, 2],
    }.items():
        expected = torch.zeros(4).double()
        expected[directions] = 1
        torch.testing.assert_close(spanned(extended(None, moments, energy)), torch.diag(expected))


def test_what_is_held_already_counts_and_nothing_is_held_twice() -> None:
    held = torch.tensor([[0.0], [1.0], [0.0]])
    moments = torch.diag(torch.tensor([10.0, 80.0, 10.0])).double()
    assert extended(held, moments, 0.8).shape == (3, 1)
    assert extended(held, moments, 0.85).shape == (3, 2)
    whole = extended(held, moments, 1.0)
    torch.testing.assert_close(spanned(whole), torch.eye(3).double())
    assert torch.equal(whole[:, :1], held)
    assert extended(whole, moments, 1.0).shape == (3, 3)


def test_the_basis_is_that_of_the_papers_singular_vectors() -> None:
    """Equations 8 and 9 as they stand, with numpy's SVD of the inputs themselves."""
    generator = torch.Generator().manual_seed(0)
    basis: Tensor | None = None
    reference: Any = np.zeros((12, 0))
    for energy in (0.9, 0.93, 0.96):
        inputs = torch.randn(40, 12, generator=generator) * torch.linspace(0.1, 2, 12) ** 3
        inputs = inputs @ torch.linalg.qr(torch.randn(12, 12, generator=generator)).Q
        basis = extended(basis, moments_of(inputs), energy)
        r = inputs.double().numpy().T  # (width, number)
        rest = r - reference @ (reference.T @ r)
        left, values, _ = np.linalg.svd(rest, full_matrices=False)
        total, held = (r**2).sum(), (r**2).sum() - (rest**2).sum()
        k = next(k for k in range(13) if held + (values[:k] ** 2).sum() >= energy * total)
        reference = np.concatenate([reference, left[:, :k]], axis=1)
        assert basis.shape == reference.shape
        np.testing.assert_allclose(spanned(basis).numpy(), reference @ reference.T, atol=1e-5)


def test_a_projected_change_is_not_noticed_inside_the_span_and_whole_outside_of_it() -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
    inside, outside = basis[:, :3], basis[:, 3:]
    moved = torch.randn(5, 8, generator=generator)
    found = projected(moved, inside)
    torch.testing.assert_close(found @ inside, torch.zeros(5, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(found @ outside, moved @ outside)
    torch.testing.assert_close(
        projected(moved[2:4], inside), found[2:4]
    )  # the rows of one process are its own


class Watched(GPM):
    """Keeps the bases and the weights around every task."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._seen: list[tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]] = []

    @override
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        now = {n: p.detach().clone() for n, p in module.trained_parameters().items()}
        bases = {k.removesuffix("/basis"): t for k, t in self.tensors.items() if k.endswith("/basis")}
        anchors = {k.removeprefix("anchor/"): t for k, t in self.tensors.items() if k.startswith("anchor/")}
        self._seen.append((bases, anchors, now))
        super().on_task_end(trainer, module, task)


def fit(checkpoint: Path, run: Path, gpm: GPM, recipe: Any = "sa_proj", **options: Any) -> None:
    """Two tasks of one recipe, with weight decay, which Adam does not see."""
    tasks = [toy_task(name, i, max_train_samples=8, epochs=3) for i, name in enumerate(("first", "second"))]
    module = toy_module(checkpoint, run, recipe=recipe, weight_decay=0.1, **options)
    toy_trainer(callbacks=[gpm]).fit(module, TaskSequenceDataModule(tasks, batch_size=4))


def test_outputs_for_past_inputs_do_not_change_while_the_weights_do(tiny: Path, tmp_path: Path) -> None:
    gpm = Watched(epsilon=0.9, samples=8)
    fit(tiny, tmp_path, gpm)
    assert gpm._seen[0][0] == {}
    bases, before, after = gpm._seen[1]
    assert bases.keys() == {name for name in after if name.endswith(".weight")}
    for name, basis in bases.items():
        moved = after[name] - before[name]
        assert 0 < basis.shape[1] < basis.shape[0]
        assert float(moved.norm()) > 1e-2
        assert float((moved @ basis).norm()) < 1e-5 * float(moved.norm())


def test_where_all_of_the_inputs_are_held_the_weights_stay_byte_for_byte(tiny: Path, tmp_path: Path) -> None:
    gpm = Watched(epsilon=1.0, samples=8)
    fit(tiny, tmp_path, gpm)
    bases, before, after = gpm._seen[1]
    whole = [name for name, basis in bases.items() if basis.shape[0] == basis.shape[1]]
    assert whole and all(torch.equal(after[name], before[name]) for name in whole)


def test_what_is_no_weight_of_a_linear_layer_stays_from_the_second_task_on_and_is_told(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(lmmcl.sequence.task_sequence, "rank_zero_info", said.append)
    gpm = Watched(epsilon=0.9, samples=4)
    fit(tiny, tmp_path, gpm, "full")
    bases, before, after = gpm._seen[1]
    others = after.keys() - bases.keys()
    assert any("norm" in name for name in others) and any("embed" in name for name in others)
    assert all(torch.equal(after[name], before[name]) for name in others)
    assert any(not torch.equal(after[name], before[name]) for name in bases)
    assert any(f"Watched: second leaves {len(others)} tensors as they are" in text for text in said)


def test_a_layer_that_no_later_task_trains_is_not_looked_at(tiny: Path, tmp_path: Path) -> None:
    gpm = GPM(epsilon=0.9, samples=4)
    law_fit(tiny, tmp_path, [gpm])  # the last task trains what the others did
    weights = law_weights(tmp_path)
    trained = {name for name in weights["03-third"] if name.endswith(".weight")}
    assert {key.removesuffix("/basis") for key in gpm.tensors} == trained


@pytest.mark.parametrize("options", [{"epsilon": 0.0}, {"epsilon_step": -0.1}, {"samples": -1}])
def test_a_value_out_of_range_is_named(options: dict[str, Any]) -> None:
    ((key, value),) = options.items()
    with pytest.raises(UserError, match=f"GPM.{key} must be .* got {value}"):
        GPM(**options)
