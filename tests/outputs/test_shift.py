"""How far a distribution moved, class by class, and the share that a correction brings back."""

import math

import pytest
import torch
from torch import nn

from lmmcl.outputs.shift import returned, shift_by_class

CLASSES = [
    torch.tensor([0, 3]),
    torch.tensor([1]),
    torch.tensor([], dtype=torch.long),
    torch.tensor([2, 4, 5]),
]


def two_distributions() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(7, 6, generator=generator).log_softmax(-1) for _ in range(2))  # type: ignore[return-value]  # two


def test_the_parts_of_the_classes_add_up_to_the_whole() -> None:
    base, present = two_distributions()
    found = shift_by_class(base, present, CLASSES)
    variation = (base.exp() - present.exp()).abs().sum(-1) / 2
    divergence = nn.functional.kl_div(present, base, reduction="none", log_target=True).sum(-1)
    torch.testing.assert_close(found[:, :4].sum(-1), variation)
    torch.testing.assert_close(found[:, 4:].sum(-1), divergence)
    assert found[:, 2].tolist() == found[:, 6].tolist() == [0.0] * 7, "the empty class"


def test_a_class_s_part_is_that_of_its_tokens() -> None:
    base, present = two_distributions()
    found = shift_by_class(base, present, CLASSES)
    torch.testing.assert_close(found[:, 1], (base.exp() - present.exp())[:, 1].abs() / 2)
    torch.testing.assert_close(found[:, 5], base[:, 1].exp() * (base - present)[:, 1])


def test_an_unchanged_model_is_nothing_away() -> None:
    base, _ = two_distributions()
    assert not shift_by_class(base, base.clone(), CLASSES).any()


def test_what_comes_back_is_a_share_of_what_was_lost() -> None:
    base, present = torch.ones(4), torch.full((4,), 3.0)
    assert returned(base=base, present=present, corrected=present) == 0
    assert returned(base=base, present=present, corrected=base) == 1
    assert returned(base=base, present=present, corrected=present + 1) == -0.5
    assert math.isnan(returned(base=base, present=base, corrected=base))
    assert math.isnan(returned(base=present, present=base, corrected=base)), "nothing was lost"


def test_a_loss_within_its_standard_error_has_no_share() -> None:
    present = torch.tensor([1.0, -0.9, 0.8, -0.7])  # 0.05 lost, with a standard error of 0.5
    assert math.isnan(returned(base=torch.zeros(4), present=present, corrected=torch.zeros(4)))
    assert returned(base=torch.zeros(4), present=present + 2, corrected=torch.zeros(4)) == pytest.approx(1)
    one = torch.ones(1)
    assert math.isnan(returned(base=0 * one, present=one, corrected=one)), "one row has no standard error"
