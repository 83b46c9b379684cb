"""Low-rank experts: the sum over experts, one of them is LoRA, and none of them is nothing."""

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from lmmcl.adapters.lora_experts import ExpertLinear, LowRankExperts
from lmmcl.errors import UserError

INPUTS = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1))


def linear() -> nn.Linear:
    made = nn.Linear(8, 6)
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        nn.init.normal_(parameter, generator=generator)
    return made.requires_grad_(False)


def mixture(experts: int, rank: int = 6, scale: float = 0.5) -> ExpertLinear:
    made = ExpertLinear(linear(), experts, rank, scale)
    generator = torch.Generator().manual_seed(experts)
    for part in (made.experts_A, made.experts_B, made.router):
        nn.init.normal_(part.weight, generator=generator)
    return made


def reference(made: ExpertLinear, x: Tensor) -> Tensor:
    """W x + s Σ_e softmax(R x)_e B_e A_e x of one token, an expert at a time."""
    logits = made.router.weight @ x
    total = made.base_layer.weight @ x + made.base_layer.bias
    size = made.experts_A.out_features // made.router.out_features
    for e in range(made.router.out_features):
        own = slice(e * size, (e + 1) * size)
        down, up = made.experts_A.weight[own], made.experts_B.weight[:, own]
        total = total + made.scale * logits.exp()[e] / logits.exp().sum() * (up @ (down @ x))
    return total


@pytest.mark.parametrize("experts", [1, 2, 3, 6])
def test_it_is_the_sum_over_experts_weighed_by_the_softmax_of_the_router(experts: int) -> None:
    made = mixture(experts)
    expected = torch.stack([reference(made, x) for x in INPUTS.flatten(0, 1)]).unflatten(0, (3, 5))
    torch.testing.assert_close(made(INPUTS), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(made(INPUTS[0, 0]), expected[0, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_one_expert_is_lora_bit_for_bit_and_so_are_its_gradients(bf16: bool, dropout: float) -> None:
    made = mixture(1)
    made.dropout.p = dropout
    config = LoraConfig(r=6, lora_alpha=3, lora_dropout=dropout, init_lora_weights=False)
    lora = LoraLinear(linear(), "default", config, r=6, lora_alpha=3)
    pair = lora.lora_A["default"], lora.lora_B["default"]
    for part, own in zip(pair, (made.experts_A, made.experts_B), strict=True):
        part.weight = nn.Parameter(own.weight.detach().clone())
    found = []
    for layer in (made, lora.train()):
        torch.manual_seed(5)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found.append(layer(INPUTS))
        found[-1].float().square().sum().backward()
    assert torch.equal(*found)
    for part, own in zip(pair, (made.experts_A, made.experts_B), strict=True):
        assert isinstance(part.weight, Tensor)
        assert own.weight.grad is not None and own.weight.grad.any() and part.weight.grad is not None
        assert torch.equal(own.weight.grad, part.weight.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_experts_whose_b_is_zero_change_nothing_bit_for_bit(dtype: torch.dtype) -> None:
    made = mixture(3).to(dtype)
    made.dropout.p = 0.5
    nn.init.zeros_(made.experts_B.weight)
    assert torch.equal(made(INPUTS.to(dtype)), made.base_layer(INPUTS.to(dtype)))


def test_a_certain_router_gives_one_expert_alone() -> None:
    made = mixture(3)
    tokens = INPUTS.clone()
    tokens[..., 0] = 1.0
    for e in range(3):
        nn.init.zeros_(made.router.weight)
        made.router.weight.data[e, 0] = 1e4
        own = slice(2 * e, 2 * e + 2)
        alone = tokens @ made.experts_A.weight[own].T @ made.experts_B.weight[:, own].T
        torch.testing.assert_close(made(tokens), made.base_layer(tokens) + made.scale * alone)


def test_the_gradient_reaches_experts_and_router_and_nothing_else() -> None:
    made = mixture(2)
    made(INPUTS).square().sum().backward()
    assert {name for name, p in made.named_parameters() if p.grad is not None and p.grad.any()} == {
        "experts_A.weight",
        "experts_B.weight",
        "router.weight",
    }


def test_new_experts_are_in_fp32_whatever_the_linear_is_in() -> None:
    made = ExpertLinear(linear().bfloat16(), 2, 4, 1.0)
    assert made.base_layer.weight.dtype == torch.bfloat16
    assert {p.dtype for n, p in made.named_parameters() if "base_layer" not in n} == {torch.float32}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0, 1, 8.0, 0.0), "X.rank must be a multiple of experts \\(1\\), got 0; take 1"),
        ((12, 8, 8.0, 0.0), "X.rank must be a multiple of experts \\(8\\), got 12; take 8 or 16"),
        ((8, 0, 8.0, 0.0), "X.experts must be at least 1, got 0"),
        ((8, 2, 0.0, 0.0), "X.alpha must be above 0, got 0"),
        ((8, 2, 8.0, 1.0), "X.dropout must lie in \\[0, 1\\), got 1"),
    ],
)
def test_a_value_out_of_its_range_is_refused(values: tuple[int, int, float, float], words: str) -> None:
    with pytest.raises(UserError, match=f"trainer.callbacks: {words}"):
        LowRankExperts("X", *values)
