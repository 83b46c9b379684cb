"""Estimated activations, against what autograd keeps of a real decoder."""

from collections.abc import Collection
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import Qwen2Model

from lmmcl.adapters.experts import Mixture
from lmmcl.preflight.activations import Shape, generation_bytes, layer_bytes, training_bytes
from lmmcl.structure.recomputed import PARTS

LAYERS, TOKENS, SAMPLES = 3, 256, 2
SHAPE = Shape(hidden=256, layers=LAYERS, inner=1024, queries=256, keys=64, heads=8, vocabulary=100)
GROUPS = {
    "q_proj": "llm.attn.q",
    "k_proj": "llm.attn.k",
    "v_proj": "llm.attn.v",
    "o_proj": "llm.attn.o",
    "gate_proj": "llm.mlp.gate",
    "up_proj": "llm.mlp.up",
    "down_proj": "llm.mlp.down",
}


def kept(trained: set[str], attention: str, layers: int, copies: bool = False) -> int:
    """Bytes that autograd keeps of one forward in bf16, each storage once, without the weights.

    With copies, it is the copy of each MLP that trains, beside the frozen one.
    """
    config = Qwen2Config(
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=2,
        vocab_size=100,
    )
    config._attn_implementation = attention
    model = Qwen2Model(config).bfloat16().train()
    if copies:
        for layer in model.layers:
            layer.mlp = Mixture(layer.mlp, 256, top_k_eval=2).bfloat16()
            torch.nn.init.normal_(layer.mlp.router.weight)
    for name, parameter in model.named_parameters():
        name = name.replace(".mlp.base_layer.", "frozen") if copies else name
        parameter.requires_grad_(any(part in name for part in trained))
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    storages: dict[int, int] = {}
    alive: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # a freed storage's address would be given out again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(input_ids=torch.randint(0, 100, (SAMPLES, TOKENS)), use_cache=False)
    return sum(storages.values())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "trained",
    [
        {"q_proj", "k_proj", "v_proj", "o_proj"},
        {"gate_proj", "up_proj"},
        {"gate_proj", "up_proj", "down_proj"},
    ],
)
def test_a_layer_keeps_what_autograd_keeps(trained: set[str], attention: str) -> None:
    groups = {GROUPS[name] for name in trained}
    estimated = layer_bytes(SHAPE, groups, TOKENS, attention == "eager") * SAMPLES * TOKENS
    # One more layer: the first one keeps less, since nothing before it trains.
    real = kept(trained, attention, LAYERS + 1) - kept(trained, attention, LAYERS)
    assert estimated == pytest.approx(real, rel=0.05)


@pytest.mark.parametrize("trained", [{"gate_proj", "up_proj"}, {"gate_proj", "up_proj", "down_proj"}])
def test_a_layer_with_a_copy_of_its_mlp_keeps_what_both_need(trained: set[str]) -> None:
    shape = replace(SHAPE, mlps=2)
    estimated = layer_bytes(shape, {GROUPS[name] for name in trained}, TOKENS, False) * SAMPLES * TOKENS
    names = {f"expert.{name}" for name in trained} | {"router"}
    real = kept(names, "sdpa", LAYERS + 1, copies=True) - kept(names, "sdpa", LAYERS, copies=True)
    assert estimated == pytest.approx(real, rel=0.05)


def total(
    checkpointing: Collection[str] = (), first: int = 0, trained: set[str] | None = None, pixels: int = 0
) -> int:
    return training_bytes(
        SHAPE,
        trained or {"llm.attn.q"},
        first=first,
        tokens=SAMPLES * TOKENS,
        length=TOKENS,
        pixels=pixels,
        answers=0,
        checkpointing=checkpointing,
        eager=False,
    )


def test_layers_below_the_first_trained_one_keep_nothing() -> None:
    assert total(first=2) * LAYERS == pytest.approx(total())


def test_checkpointing_keeps_one_layer_and_the_inputs_of_all() -> None:
    one = layer_bytes(SHAPE, {"llm.attn.q"}, TOKENS, eager=False) * SAMPLES * TOKENS
    assert total(checkpointing=PARTS) == round(one + LAYERS * 2 * SHAPE.hidden * SAMPLES * TOKENS)


def test_a_frozen_vision_tower_keeps_nothing_and_a_trained_one_34_bytes_a_token_and_width() -> None:
    shape = Shape(256, LAYERS, 1024, 256, 64, 8, 100, vision_hidden=64, vision_layers=5, patch=3 * 14 * 14)
    options = {"first": 0, "tokens": 1, "length": 1, "answers": 0, "checkpointing": (), "eager": False}
    frozen, trained = (
        training_bytes(shape, {group}, pixels=10 * shape.patch, **options)  # type: ignore[arg-type]  # of several kinds
        for group in ("llm.norm", "vision")
    )
    assert trained - frozen == 34 * 64 * 10 * 5


def test_generation_keeps_keys_and_values_of_every_layer() -> None:
    more = Shape(256, LAYERS + 1, 1024, 256, 64, 8, 100)
    assert generation_bytes(more, 100) - generation_bytes(SHAPE, 100) == 100 * 2 * 2 * SHAPE.keys
