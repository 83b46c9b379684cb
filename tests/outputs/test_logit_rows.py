"""Functions of logits a few rows at a time, against autograd on the whole."""

import pytest
import torch
from torch import Tensor, nn

import lmmcl.outputs.logit_rows
from lmmcl.losses import cross_entropy, distillation
from lmmcl.outputs.logit_rows import RowFunction, over_rows


@pytest.fixture(autouse=True)
def two_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmmcl.outputs.logit_rows, "_AT_ONCE", {"cpu": 2 * 7})


def logits(dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(5, 7, generator=torch.Generator().manual_seed(seed)).to(dtype).requires_grad_()


LABELS = torch.tensor([3, 0, 6, 2, 2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_derivatives_are_those_of_the_whole(dtype: torch.dtype) -> None:
    given, teacher, upstream = logits(dtype), logits(dtype, 1).detach(), torch.rand(5)

    def both(logits: Tensor, labels: Tensor, other: Tensor) -> Tensor:
        return cross_entropy(logits, labels) + distillation(logits, other, 2.0)

    expected = both(given, LABELS, teacher)
    (slopes,) = torch.autograd.grad(expected, given, upstream)
    found = RowFunction.apply(given, both, False, LABELS, teacher)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert torch.equal(found, expected)
    (again,) = torch.autograd.grad(found, given, upstream)
    assert again.dtype == dtype
    rounding = 2**-8 if dtype == torch.bfloat16 else 1e-6  # once more, before the factor
    torch.testing.assert_close(again, slopes, rtol=rounding, atol=rounding)


def test_the_function_never_sees_more_rows_than_allowed() -> None:
    seen = []

    def watch(logits: Tensor, labels: Tensor) -> Tensor:
        seen.append(len(logits))
        return cross_entropy(logits, labels)

    over_rows(watch, logits(), [LABELS], gradient=True)
    over_rows(watch, logits(), [LABELS], gradient=False)
    assert seen == [2, 2, 1] * 2


def test_without_a_gradient_a_result_may_have_columns() -> None:
    found, slopes = over_rows(lambda z, labels: z.topk(3).values, logits(), [LABELS], gradient=False)
    assert slopes is None
    assert torch.equal(found, logits().topk(3).values)


def test_a_result_of_several_numbers_has_no_gradient() -> None:
    with pytest.raises(ValueError, match=r"must return \(rows,\)"):
        over_rows(lambda z, labels: z, logits(), [LABELS], gradient=True)


def test_what_else_takes_a_gradient_is_refused_and_not_forgotten() -> None:
    learned = nn.Parameter(torch.ones(()))
    with pytest.raises(ValueError, match="takes a gradient"):
        over_rows(lambda z, labels: cross_entropy(learned * z, labels), logits(), [LABELS], gradient=True)


def test_a_result_that_does_not_depend_on_the_logits_has_no_derivative() -> None:
    values, slopes = over_rows(lambda z, labels: labels.float(), logits(), [LABELS], gradient=True)
    assert torch.equal(values, LABELS.float()) and slopes is not None and not slopes.any()
