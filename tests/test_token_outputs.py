"""Chunked logits and the hook that narrows them."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lmmcl.token_outputs
from lmmcl.losses import cross_entropy, distillation
from lmmcl.token_outputs import AnswerHook, TokenOutputs, answer_tokens, every_token, tokens_at


def outputs(seed: int, head: nn.Linear) -> TokenOutputs:
    hidden = torch.randn(10, 4, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    return TokenOutputs(hidden, torch.arange(10) % 7, torch.arange(10), head, 7)


@pytest.fixture
def head() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 7)


def test_chunks_give_the_loss_and_the_gradient_of_the_whole(
    head: nn.Linear, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher = outputs(0, head), outputs(1, head)

    def run() -> tuple[Tensor, ...]:
        def both(logits: Tensor, labels: Tensor, other: Tensor) -> Tensor:
            return cross_entropy(logits, labels) + distillation(logits, other, 2.0)

        values = student.map(both, teacher)
        gradients = torch.autograd.grad(values.sum(), [student.hidden, head.weight])
        return values, *gradients

    whole = run()
    monkeypatch.setattr(lmmcl.token_outputs, "_LOGITS_AT_ONCE", 3 * 7)
    for one, other in zip(whole, run(), strict=True):
        torch.testing.assert_close(one, other)


def test_no_chunk_holds_more_logits_than_allowed(head: nn.Linear, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmmcl.token_outputs, "_LOGITS_AT_ONCE", 3 * 7)
    sizes = []

    def watch(logits: Tensor, labels: Tensor) -> Tensor:
        sizes.append(len(logits))
        return cross_entropy(logits, labels)

    outputs(0, head).map(watch)
    assert sizes == [3, 3, 3, 1]


def test_what_stands_beside_the_tokens_is_handed_out_chunk_by_chunk(
    head: nn.Linear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmmcl.token_outputs, "_LOGITS_AT_ONCE", 3 * 7)
    student, teacher, beside = outputs(0, head), outputs(1, head), torch.randn(10, 7)

    def both(logits: Tensor, labels: Tensor, other: Tensor, along: Tensor) -> Tensor:
        return torch.stack([(logits * along).sum(-1), (other * along).sum(-1)], dim=-1)

    found = student.map(both, teacher, beside=[beside])
    expected = [(head(outputs.hidden) * beside).sum(-1) for outputs in (student, teacher)]
    torch.testing.assert_close(found, torch.stack(expected, dim=-1))


def test_no_answer_token_gives_an_empty_loss_that_still_reaches_the_weights(head: nn.Linear) -> None:
    hidden = torch.zeros(0, 4, requires_grad=True)
    empty = TokenOutputs(hidden, torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), head, 7)
    empty.map(cross_entropy).sum().backward()
    assert head.weight.grad is not None and not head.weight.grad.any()


def test_the_hook_keeps_the_states_that_predict_an_answer_token(head: nn.Linear) -> None:
    hook, seen = AnswerHook(head), []
    head.register_forward_hook(lambda module, args, out: seen.append(out.shape))
    hidden = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[-100, -100, -100, 5, 6, -100], [-100, 1, -100, -100, 2, 3]])

    def forward() -> Any:
        return head(hidden)

    kept = hook.collect(forward, labels)
    assert torch.equal(
        kept, torch.stack([hidden[0, 2], hidden[0, 3], hidden[1, 0], hidden[1, 3], hidden[1, 4]])
    )
    targets, samples = answer_tokens(labels)
    assert targets.tolist() == [5, 6, 1, 2, 3] and samples.tolist() == [0, 0, 1, 1, 1]
    assert forward().shape == (2, 1, 7), "generation gets the last position only"
    assert seen == [(2, 0, 7), (2, 1, 7)]


def test_the_hook_keeps_every_state_of_a_sample_but_padding_and_fillers(head: nn.Linear) -> None:
    hook = AnswerHook(head)
    hidden = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    tokens = torch.arange(15).reshape(3, 5)
    labels = torch.tensor(
        [[-100, -100, 7, 8, -100], [-100, -100, -100, -100, -100], [-100, 11, -100, -100, -100]]
    )
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    wanted = every_token(labels, mask)
    answer, everywhere = hook.collect_at(lambda: head(hidden), [labels != -100, wanted])
    assert torch.equal(answer, hidden[[0, 0, 2], [1, 2, 0]])
    assert torch.equal(everywhere, hidden[[0, 0, 0, 2], [0, 1, 2, 0]])
    targets, samples = tokens_at(tokens, wanted)
    assert targets.tolist() == [1, 2, 3, 11] and samples.tolist() == [0, 0, 0, 2]
