"""Mixtures of an MLP and its copy: certain routers give either exactly, equal experts give what both say."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from lmmcl.adapters.experts import Experts, Mixture, mlps_of
from lmmcl.errors import UserError
from lmmcl.loading import Checkpoint
from lmmcl.model import ContinualLMM
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.recipe import Recipe
from lmmcl.structure.recipe_table import on_meta

WIDTH = 8
TOKENS = torch.randn(3, 5, WIDTH, generator=torch.Generator().manual_seed(1))


class MLP(nn.Module):
    """A gated MLP."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(WIDTH, 12), nn.Linear(WIDTH, 12)
        self.down = nn.Linear(12, WIDTH)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)

    @override
    def forward(self, hidden: Tensor, factor: float = 1.0) -> Tensor:
        found: Tensor = self.down(torch.sigmoid(self.gate(hidden)) * self.up(hidden)) * factor
        return found


def mixture(top_k_eval: int = 2, seed: int = 1, tuned: bool = True) -> Mixture:
    """With a router far from indifference, and a copy that was tuned, or not."""
    made = Mixture(MLP(), WIDTH, top_k_eval)
    generator = torch.Generator().manual_seed(seed)
    nn.init.normal_(made.router.weight, generator=generator)
    nn.init.normal_(made.router.bias, generator=generator)
    if tuned:
        made.expert = MLP(seed=7)
    return made.requires_grad_(False).train()


def test_it_is_the_sum_of_both_weighed_by_the_softmax_of_the_router() -> None:
    made = mixture()
    for where in (True, False):
        found = made.train(where)(TOKENS)
        for sample in range(3):
            for token in range(5):
                x = TOKENS[sample, token]
                logits = made.router.weight @ x + made.router.bias
                own, copy = (logits.exp() / logits.exp().sum()).tolist()
                expected = own * made.base_layer(x) + copy * made.expert(x)
                torch.testing.assert_close(found[sample, token], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("top_k_eval", [1, 2])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_certain_router_gives_either_mlp_bit_for_bit(
    top_k_eval: int, training: bool, dtype: torch.dtype
) -> None:
    made = mixture(top_k_eval).to(dtype).train(training)
    tokens = TOKENS.to(dtype)
    for towards, wanted in ((-1e4, made.base_layer), (1e4, made.expert)):
        made.router.bias.copy_(torch.tensor([0.0, towards]))
        assert torch.equal(made(tokens), wanted(tokens))
    assert not torch.equal(made.base_layer(tokens), made.expert(tokens))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_copy_that_was_not_tuned_changes_nothing_whatever_the_router(dtype: torch.dtype) -> None:
    for seed in range(20):
        made = mixture(seed=seed, tuned=False).to(dtype)
        assert torch.equal(made(TOKENS.to(dtype)), made.base_layer(TOKENS.to(dtype)))


def test_the_likelier_expert_alone_answers_in_eval_mode_and_both_in_training() -> None:
    one, both = mixture(1), mixture(2)
    assert torch.equal(one(TOKENS), both(TOKENS))
    logits = one.router(TOKENS)
    likelier = (logits[..., 1] > logits[..., 0])[..., None]
    assert likelier.any() and not likelier.all()
    expected = torch.where(likelier, one.expert(TOKENS), one.base_layer(TOKENS))
    assert torch.equal(one.eval()(TOKENS), expected)
    assert not torch.allclose(both.eval()(TOKENS), expected)


def test_the_gradient_reaches_copy_and_router_and_flows_through_the_frozen_mlp() -> None:
    made = mixture()
    for part in (made.expert, made.router):
        part.requires_grad_()
    tokens = TOKENS.clone().requires_grad_()
    made(tokens).square().sum().backward()
    assert all(p.grad is None for p in made.base_layer.parameters())
    assert all(
        p.grad is not None and p.grad.any() for part in (made.expert, made.router) for p in part.parameters()
    )
    again = TOKENS.clone().requires_grad_()
    share = made.router(again).softmax(-1)
    (share[..., :1] * made.base_layer(again) + share[..., 1:] * made.expert(again)).square().sum().backward()
    assert tokens.grad is not None and again.grad is not None
    torch.testing.assert_close(tokens.grad, again.grad, rtol=1e-4, atol=1e-4)


def test_while_both_say_the_same_no_router_is_moved_by_rounding() -> None:
    made = mixture(tuned=False)
    made.router.requires_grad_()
    made(TOKENS).square().sum().backward()
    assert made.router.weight.grad is not None and not made.router.weight.grad.any()


def test_what_the_layer_passes_beside_the_tokens_reaches_both() -> None:
    made = mixture()
    assert torch.allclose(made(TOKENS, factor=2.0), 2 * made(TOKENS), atol=1e-5)


def test_an_mlp_that_returns_more_than_a_tensor_is_refused() -> None:
    class Pair(MLP):
        @override
        def forward(self, hidden: Tensor, factor: float = 1.0) -> Any:
            return super().forward(hidden, factor), None

    with pytest.raises(UserError, match=r"return one tensor, and this model's \(Pair\) returns a tuple"):
        Mixture(Pair(), WIDTH, 2)(TOKENS)


def adapted(path: Path, recipe: Any, anatomy: Anatomy | None = None) -> tuple[nn.Module, Experts, Any]:
    """A model without values, changed by a run of one task with a recipe."""
    model = on_meta(Checkpoint(str(path)))
    found = anatomy or Anatomy.of(model)
    parsed = Recipe.parse(recipe)
    plan = SimpleNamespace(
        data=SimpleNamespace(tasks=["only"]), anatomy=found, hparams={"seed": 0}, recipe_of=lambda _: parsed
    )
    experts = Experts(2)
    experts.adapt(cast(ContinualLMM, plan), model)
    return model, experts, plan


def test_copies_are_made_where_a_recipe_chooses_the_mlp_and_nowhere_else(tiny: Path) -> None:
    names = list(mlps_of(Anatomy.of(on_meta(Checkpoint(str(tiny))))).values())
    assert names == [f"model.language_model.layers.{k}.mlp" for k in (0, 1)]
    model, _, _ = adapted(tiny, "mlp")
    assert [path for path, part in model.named_modules() if isinstance(part, Mixture)] == names
    model, _, _ = adapted(tiny, ["sa_proj", {"train": "mlp_down", "layers": 1}])
    assert [path for path, part in model.named_modules() if isinstance(part, Mixture)] == names[1:]


def test_what_a_recipe_chooses_of_an_mlp_trains_in_its_copy_and_the_rest_as_it_is(tiny: Path) -> None:
    model, experts, plan = adapted(tiny, [{"train": "mlp", "layers": 0}, {"train": "sa_vo", "layers": 1}])
    chosen = plan.recipe_of("only").resolve(plan.anatomy)
    layers = "model.language_model.layers"
    found = experts.trains(plan, cast(Any, "only"), chosen)
    copy = {
        f"{layers}.0.mlp.expert.{part}_proj.weight": f"llm.mlp.{part}.expert"
        for part in ("gate", "up", "down")
    }
    router = {f"{layers}.0.mlp.router.{part}": "llm.mlp.gate.expert" for part in ("weight", "bias")}
    assert found == copy | router | {name: group for name, group in chosen.items() if ".1." in name}
    assert found.keys() - chosen.keys() <= dict(model.named_parameters()).keys()
    only_down = {n: g for n, g in chosen.items() if "down" in n}
    assert set(experts.trains(plan, cast(Any, "only"), only_down).values()) == {"llm.mlp.down.expert"}


def test_a_recipe_without_an_mlp_is_refused_with_the_way_out(tiny: Path) -> None:
    with pytest.raises(UserError, match=r"model\.recipe: .* no task's recipe chooses any\. Take mlp"):
        adapted(tiny, ["sa_proj", "vision"])


def test_a_model_whose_layers_hold_their_mlp_in_pieces_is_refused(tiny: Path) -> None:
    names = ["layers.0.fc1.weight", "layers.0.fc2.weight"]
    groups = {"llm.mlp.up": names[:1], "llm.mlp.down": names[1:]}
    of = {name: group for group, held in groups.items() for name in held}
    pieces = Anatomy(groups, dict.fromkeys(names, 4), ["layers.0"], [], {"layers.0": 0}, of)
    assert mlps_of(pieces) == {}
    with pytest.raises(UserError, match=r"layers\.0\.fc1\.weight lies in none"):
        adapted(tiny, "mlp", pieces)


def test_another_number_of_experts_is_refused() -> None:
    with pytest.raises(UserError, match=r"MoE\.top_k_eval must be 1 or 2, got 3"):
        Experts(3)
