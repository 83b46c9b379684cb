"""Chunked logits and the hook that narrows them."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typing_extensions import override

import lmmcl.outputs.logit_rows
import lmmcl.outputs.token_outputs
from lmmcl.data.batches.batch import Batch
from lmmcl.losses import cross_entropy, distillation
from lmmcl.outputs.logit_rows import FusedFunction, over_rows
from lmmcl.outputs.token_outputs import AnswerHook, TokenOutputs, answer_tokens, every_token, tokens_at


def outputs(seed: int, head: nn.Linear) -> TokenOutputs:
    hidden = torch.randn(10, 4, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    frozen = not head.weight.requires_grad
    return TokenOutputs(hidden, torch.arange(10) % 7, torch.arange(10), head, 7, frozen=frozen)


@pytest.fixture(params=[True, False], ids=["trained head", "frozen head"])
def head(request: pytest.FixtureRequest) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 7).requires_grad_(request.param)


@pytest.fixture(params=[(7, 1), (21, 14), (21, 7), (70, 14)], ids=str)
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks and rows at once that cut ten tokens of seven words in every way."""
    chunk, rows = request.param
    monkeypatch.setattr(lmmcl.outputs.token_outputs, "_LOGITS_AT_ONCE", chunk)
    monkeypatch.setattr(lmmcl.outputs.logit_rows, "_AT_ONCE", {"cpu": rows})


def both(logits: Tensor, labels: Tensor, other: Tensor, along: Tensor) -> Tensor:
    return along * cross_entropy(logits, labels) + distillation(logits, other, 2.0)


@pytest.mark.usefixtures("small")
def test_chunks_give_the_losses_and_the_gradients_of_the_whole(head: nn.Linear) -> None:
    student, teacher, along, upstream = outputs(0, head), outputs(1, head), torch.rand(10), torch.rand(10)
    learned = [student.hidden, *(p for p in head.parameters() if p.requires_grad)]

    def gradients(terms: Tensor) -> tuple[Tensor, ...]:
        return terms, *torch.autograd.grad(terms, learned, upstream)

    with torch.no_grad():
        other = head(teacher.hidden)
    logits = head(student.hidden)
    whole = gradients(both(logits, student.labels, other, along) + cross_entropy(logits, student.labels))
    # Two functions of the same outputs, as with a mitigation's term beside the loss, and both again.
    for _ in range(2):
        found = student.map(both, teacher, beside=[along]) + student.map(cross_entropy)
        for one, expected in zip(gradients(found), whole, strict=True):
            torch.testing.assert_close(one, expected)


@pytest.mark.usefixtures("small")
def test_without_a_gradient_the_values_are_the_same(head: nn.Linear) -> None:
    student, teacher = outputs(0, head), outputs(1, head)
    with torch.no_grad():
        found = student.map(both, teacher, beside=[torch.ones(10)])
        expected = both(head(student.hidden), student.labels, head(teacher.hidden), torch.ones(10))
        assert student.map(lambda z, labels: z).shape == (10, 7)
    torch.testing.assert_close(found, expected)


class Products(TorchDispatchMode):
    """Counts products of matrices, and notes the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.count = self.largest = 0

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.count += func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self.largest = max(self.largest, tensor.numel())
        return made


def products(head: nn.Linear, tokens: int, chunk: int, terms: int = 1) -> Products:
    """What a step does with so many tokens in chunks of so many."""
    hidden = torch.randn(tokens, 4).requires_grad_()
    labels = torch.arange(tokens) % 7
    frozen = not head.weight.requires_grad
    counted = Products()
    with pytest.MonkeyPatch.context() as patch, counted:
        patch.setattr(lmmcl.outputs.token_outputs, "_LOGITS_AT_ONCE", 7 * chunk)
        of = TokenOutputs(hidden, labels, labels, head, 7, frozen=frozen)
        sum(of.map(cross_entropy).sum() for _ in range(terms)).backward()  # type: ignore[union-attr]
    return counted


def test_no_tensor_is_larger_than_a_chunk_of_logits_and_none_is_computed_twice(head: nn.Linear) -> None:
    learns = head.weight.requires_grad
    counted = products(head, tokens=100, chunk=60)
    # A token's hidden state is 4 numbers wide, its logits 7: the largest whole tensor would have 700.
    assert counted.largest == max(60 * 7, 100 * 4)
    # Two chunks: logits, the gradient of the states, and where the head learns its own and the logits again.
    assert counted.count == 2 * (4 if learns else 2)


def test_several_terms_share_one_product_and_its_gradient(head: nn.Linear) -> None:
    learns = head.weight.requires_grad
    assert products(head, tokens=10, chunk=10, terms=3).count == (3 if learns else 2)


def test_derivatives_take_the_memory_of_the_logits_of_the_last_function_and_change_no_byte(
    head: nn.Linear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmmcl.outputs.logit_rows, "_AT_ONCE", {"cpu": 14})
    learned = [p for p in head.parameters() if p.requires_grad]
    upstream = torch.rand(10)
    products: list[Tensor] = []
    head.register_forward_hook(lambda module, args, made: products.append(made.detach()))

    def gradients(last: bool) -> list[Tensor]:
        student = outputs(0, head)
        found = student.map(cross_entropy, last=last)
        # The second backward pass needs what the first one kept, and scales it in place.
        kept = torch.autograd.grad(found, [student.hidden, *learned], upstream, retain_graph=True)
        return [found, *kept, *torch.autograd.grad(found, [student.hidden, *learned], upstream)]

    over, beside = gradients(last=True), gradients(last=False)
    assert all(torch.equal(one, other) for one, other in zip(over, beside, strict=True))
    assert not torch.equal(*products), "the logits are overwritten by their derivatives"


def test_a_function_behind_the_last_one_and_one_before_it_find_the_logits(
    head: nn.Linear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmmcl.outputs.logit_rows, "_AT_ONCE", {"cpu": 14})
    student, plain = outputs(0, head), outputs(0, head)
    found = [student.map(cross_entropy, last=last) for last in (False, True, True, False)]
    expected = plain.map(cross_entropy)
    assert all(torch.equal(one, expected) for one in found)
    (gradient,) = torch.autograd.grad(torch.stack(found).sum(), student.hidden)
    torch.testing.assert_close(gradient, 4 * torch.autograd.grad(expected.sum(), plain.hidden)[0])


def test_logits_do_not_outlive_the_backward(head: nn.Linear) -> None:
    student = outputs(0, head)
    loss = student.map(cross_entropy).sum()
    assert len(student._logits) == 1
    loss.backward()
    assert not student._logits


def test_what_stands_beside_the_tokens_is_handed_out_chunk_by_chunk(
    head: nn.Linear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmmcl.outputs.token_outputs, "_LOGITS_AT_ONCE", 3 * 7)
    student, teacher, beside = outputs(0, head), outputs(1, head), torch.randn(10, 7)

    def both(logits: Tensor, labels: Tensor, other: Tensor, along: Tensor) -> Tensor:
        return ((logits - 2 * other) * along).sum(-1)

    found = student.map(both, teacher, beside=[beside])
    expected = ((head(student.hidden) - 2 * head(teacher.hidden)) * beside).sum(-1)
    torch.testing.assert_close(found, expected)


def test_no_answer_token_gives_an_empty_loss_that_still_reaches_the_weights(head: nn.Linear) -> None:
    hidden = torch.zeros(0, 4, requires_grad=True)
    empty = TokenOutputs(hidden, torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), head, 7)
    empty.map(cross_entropy).sum().backward()
    assert hidden.grad is not None
    if head.weight.requires_grad:
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
    wanted = every_token(Batch({"input_ids": tokens, "attention_mask": mask}, labels))
    answer, everywhere = hook.collect_at(lambda: head(hidden), [labels != -100, wanted])
    assert torch.equal(answer, hidden[[0, 0, 2], [1, 2, 0]])
    assert torch.equal(everywhere, hidden[[0, 0, 0, 2], [0, 1, 2, 0]])
    targets, samples = tokens_at(tokens, wanted)
    assert targets.tolist() == [1, 2, 3, 11] and samples.tolist() == [0, 0, 0, 2]


def test_a_kernel_gives_values_and_slopes_of_whole_chunks_unless_it_is_turned_off(
    head: nn.Linear, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With autograd in the place of the kernel, and a chunk of six tokens."""
    seen: list[int] = []

    def kernel(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(len(logits))
        return over_rows(cross_entropy, logits, [labels], gradient=True)  # type: ignore[return-value]  # slopes are there

    monkeypatch.setattr(lmmcl.outputs.token_outputs, "_LOGITS_AT_ONCE", 6 * 7)
    monkeypatch.setattr(lmmcl.outputs.logit_rows, "_AT_ONCE", {"cpu": 7})
    monkeypatch.setattr(
        lmmcl.outputs.token_outputs,
        "CROSS_ENTROPY",
        FusedFunction(cross_entropy, kernel, lambda logits: True),
    )
    on = outputs(0, head)
    off = replace(on, liger=False)
    learned = [on.hidden, *(p for p in head.parameters() if p.requires_grad)]
    found = [torch.autograd.grad(of.map(cross_entropy).square().sum(), learned) for of in (on, off)]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    assert set(seen) == {6, 4}, "another function, and what is turned off, are none of its business"
