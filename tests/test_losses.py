"""Losses against their definitions."""

import torch

from lmmcl.losses import consolidation, cross_entropy, distillation


def test_cross_entropy_is_minus_the_log_of_the_softmax() -> None:
    logits = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 3, 8, 3])
    expected = torch.tensor(
        [-(row.exp() / row.exp().sum())[i].log() for row, i in zip(logits, labels, strict=True)]
    )
    torch.testing.assert_close(cross_entropy(logits, labels), expected)


def test_distillation_is_tau_squared_times_kl() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher, tau = (
        torch.randn(3, 5, generator=generator),
        torch.randn(3, 5, generator=generator),
        2.0,
    )
    p, q = (teacher / tau).softmax(-1), (student / tau).softmax(-1)
    torch.testing.assert_close(distillation(student, teacher, tau), tau**2 * (p * (p / q).log()).sum(-1))


def test_a_student_that_equals_its_teacher_gets_no_gradient() -> None:
    student = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = distillation(student, student.detach(), 2.0).sum()
    loss.backward()
    assert loss.item() == 0.0
    assert student.grad is not None
    torch.testing.assert_close(student.grad, torch.zeros_like(student.grad), rtol=0, atol=1e-6)


def test_consolidation_weighs_the_squared_distance_of_each_weight() -> None:
    values, anchor = torch.tensor([3.0, 1.0]), torch.tensor([1.0, 2.0])
    assert consolidation(values, anchor, torch.tensor([0.5, 3.0])).item() == 0.5 * 4 + 3.0 * 1
