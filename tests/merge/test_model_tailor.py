"""Model Tailor's patch: its limits, and its compensation in closed form for a linear layer."""

import pytest
import torch

from lmmcl.merge.model_tailor import compensated, damped, importance, tailored
from lmmcl.merge.threshold import kept_values


def layer(rows: int = 6, width: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """A change, and inputs that depend on each other."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, width, generator=generator) @ torch.randn(width, width, generator=generator)
    return torch.randn(rows, width, generator=generator), inputs


@pytest.mark.parametrize("keep", [0.1, 0.3, 0.7])
def test_the_compensation_lowers_the_layers_output_error_against_plain_masking(keep: float) -> None:
    change, inputs = layer()
    hessian = damped(inputs.T @ inputs, 1e-4)
    kept = kept_values(importance(change, hessian), keep, change)
    patch = compensated(change, kept, hessian)
    assert torch.equal(patch != 0, kept)
    masked = torch.where(kept, change, 0.0)
    errors = [float(((delta - change) @ inputs.T).norm()) for delta in (patch, masked)]
    assert errors[0] < errors[1]


def test_it_is_the_least_squares_solution_of_every_row() -> None:
    change, inputs = layer()
    kept = torch.rand(change.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    kept[2] = False
    hessian = damped(inputs.T @ inputs, 1e-7)
    patch = compensated(change, kept, hessian)
    for row, mask, found in zip(change, kept, patch, strict=True):
        solved = torch.linalg.lstsq(inputs[:, mask], inputs @ row).solution
        torch.testing.assert_close(found[mask], solved, rtol=1e-2, atol=1e-2)
        assert not found[~mask].any()


def test_one_value_left_out_is_optimal_brain_surgery() -> None:
    change, inputs = layer(rows=1)
    hessian = damped(inputs.T @ inputs, 0.01)
    kept = torch.ones_like(change, dtype=torch.bool)
    kept[0, 4] = False
    inverse = torch.linalg.inv(hessian)
    surgery = change - change[0, 4] / inverse[4, 4] * inverse[4]
    torch.testing.assert_close(compensated(change, kept, hessian), surgery, rtol=1e-3, atol=1e-3)


def test_with_all_kept_nothing_is_compensated_and_with_nothing_kept_nothing_is_left() -> None:
    change, inputs = layer()
    hessian = damped(inputs.T @ inputs, 0.01)
    torch.testing.assert_close(
        compensated(change, torch.ones_like(change, dtype=torch.bool), hessian), change, rtol=1e-3, atol=1e-3
    )
    assert not compensated(change, kept_values(change, 0.0, change), hessian).any()


def test_inputs_that_do_not_depend_on_each_other_leave_nothing_to_compensate() -> None:
    change, _ = layer()
    kept = change.abs() > 0.5
    hessian = torch.diag(torch.rand(change.shape[1], generator=torch.Generator().manual_seed(2)) + 0.1)
    torch.testing.assert_close(compensated(change, kept, hessian), torch.where(kept, change, 0.0))


def test_so_many_values_are_kept_as_asked_and_those_matter_most() -> None:
    change, inputs = layer()
    scores = importance(change, damped(inputs.T @ inputs, 0.01))
    kept = kept_values(scores, 0.25, change)
    assert int(kept.sum()) == round(0.25 * change.numel())
    assert float(scores[kept].min()) > float(scores[~kept].max())
    # Where a value can be replaced by others, it matters less than one of its size that cannot.
    twins = torch.eye(3) + torch.tensor([[0, 0.99, 0], [0.99, 0, 0], [0, 0, 0]])
    same = importance(torch.ones(1, 3), twins)
    assert same[0, 2] > same[0, 0]


def test_a_layer_that_nothing_reached_keeps_its_most_salient_values_as_they_are() -> None:
    change, _ = layer()
    hessian = damped(torch.zeros(12, 12), 0.01)
    kept = kept_values(importance(change, hessian), 0.3, change)
    torch.testing.assert_close(compensated(change, kept, hessian), torch.where(kept, change, 0.0))


@pytest.mark.parametrize("fitted", [False, True])
def test_a_bf16_tensor_whose_values_all_moved_alike_differs_in_the_share_that_is_kept(fitted: bool) -> None:
    base = torch.zeros(30, 20, dtype=torch.bfloat16)
    patched = tailored(base, base + 1, torch.eye(20) if fitted else None, 0.1)
    assert int((patched != base).sum()) == 60
