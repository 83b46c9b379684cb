"""The operations that shapes tell are those that torch's own counter sees, forward and backward, whatever trains."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForImageTextToText, AutoProcessor

from lmmcl.data.batches.packing import pack
from lmmcl.evaluation.generate import generate
from lmmcl.outputs.packed_inputs import inputs_of
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.counted_forwards import watch
from lmmcl.structure.flops import Flops
from lmmcl.structure.recipe import Recipe
from lmmcl.structure.recomputed import PARTS, recompute
from tests.toy import toy_data

RECIPES: list[Any] = [
    "full",
    "llm",
    "vision",
    "projector",
    "sa_proj",
    "mlp_gate_up",
    "mlp_down",
    "sa_vo",
    {"train": ["llm.mlp.down"], "layers": -1},
]


class Counted:
    """A tiny model, a batch, and both counters."""

    def __init__(self, checkpoint: Path) -> None:
        self.model: Any = AutoModelForImageTextToText.from_pretrained(checkpoint, attn_implementation="eager")
        self.processor = AutoProcessor.from_pretrained(checkpoint)
        data = toy_data()
        data.attach(self.processor, None)
        rows = data.train_rows(0)[:6]
        self.batch, self.prompts = data.collator.train(rows), data.collator.prompts(rows)
        self.apart = [data.collator.train([row]) for row in rows]
        self.anatomy = Anatomy.of(self.model)
        self.parameters = dict(self.model.named_parameters())

    def ours(self, trained: set[str], recomputes: Collection[str] = ()) -> list[int | Tensor]:
        """The list fills while the model runs."""
        flops = Flops(self.model, self.anatomy, self.parameters, trained, recomputes)
        found: list[int | Tensor] = []
        self.hooks = watch(self.model, self.anatomy, self.parameters, lambda: flops, found.append)
        return found

    def close(self) -> None:
        for hook in self.hooks:
            hook.remove()


@pytest.fixture(scope="module")
def counted(tiny: Path) -> Counted:
    return Counted(tiny)


def step(counted: Counted, trained: set[str], recomputes: Collection[str] = ()) -> tuple[int, int]:
    """Operations of a training step, by the shapes and by torch."""
    for name, parameter in counted.parameters.items():
        parameter.requires_grad_(name in trained)
        parameter.grad = None
    found = counted.ours(trained, recomputes)
    with FlopCounterMode(display=False) as torchs:
        counted.model(**counted.batch.inputs, use_cache=False).logits.float().logsumexp(-1).sum().backward()
    counted.close()
    return int(sum(found)), torchs.get_total_flops()


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_a_training_step_costs_what_torch_counts(recipe: Any, counted: Counted) -> None:
    trained = set(Recipe.parse(recipe).resolve(counted.anatomy))
    ours, torchs = step(counted, trained)
    assert ours == pytest.approx(torchs, rel=0.03)


@pytest.mark.parametrize("recipe", ["full", {"train": "mlp", "layers": "1:"}], ids=str)
def test_a_recomputed_forward_is_counted(recipe: Any, counted: Counted) -> None:
    trained = set(Recipe.parse(recipe).resolve(counted.anatomy))
    counted.model.train()
    recompute(counted.model, counted.anatomy, trained, PARTS)
    try:
        ours, torchs = step(counted, trained, recomputes=PARTS)
    finally:
        counted.model.activation_checkpointing_disable()
        counted.model.eval()
    assert ours == pytest.approx(torchs, rel=0.03)
    assert ours > 1.05 * step(counted, trained)[0]


def test_greedy_answers_cost_what_torch_counts(counted: Counted) -> None:
    found = counted.ours(set())
    counted.model.eval()
    with FlopCounterMode(display=False) as torchs:
        generate(counted.model, counted.processor, counted.prompts, 6)
    counted.close()
    assert len(found) > 4
    assert sum(found) == pytest.approx(torchs.get_total_flops(), rel=0.03)


def test_where_everything_trains_a_token_costs_six_operations_per_weight(counted: Counted) -> None:
    flops = Flops(counted.model, counted.anatomy, counted.parameters, set(counted.parameters))
    names = [name for group, of in counted.anatomy.groups.items() if group.startswith("llm.") for name in of]
    weights = [
        counted.parameters[n]
        for n in names
        if counted.anatomy.layer_of(n) is not None and counted.parameters[n].dim() == 2
    ]
    # Twice as many samples less once: what attention adds is the difference of two lengths' squares.
    n = sum(weight.numel() for weight in weights)
    one, two = (flops.count_positions(1, length, 0, gradient=True) for length in (1, 2))
    attention = (two - 2 * one) / 2
    assert one - attention == pytest.approx(6 * n, rel=1e-9)


def test_nothing_that_trains_means_no_backward(counted: Counted) -> None:
    flops = Flops(counted.model, counted.anatomy, counted.parameters)
    assert flops.count_positions(2, 30, 0, True) == flops.count_positions(2, 30, 0, False) > 0
    assert flops.count_patches(18, 9, True) == flops.count_patches(18, 9, False) > 0
    assert flops.count_head(100, gradient=True) == flops.count_head(100, gradient=False)


@pytest.mark.parametrize("gradient", [True, False])
def test_packed_samples_cost_what_they_cost_apart(gradient: bool, counted: Counted) -> None:
    names = set(Recipe.parse("llm").resolve(counted.anatomy))
    packed = pack(counted.batch, counted.processor.tokenizer.pad_token_id, one=True)
    assert len({len(batch.mask()[0]) for batch in counted.apart}) > 1 and bool(packed.mask().all())
    sums = []
    for batches in ([packed], counted.apart):
        found = counted.ours(names)
        with torch.set_grad_enabled(gradient):
            for batch in batches:
                counted.model(**inputs_of(counted.model, batch), use_cache=False)
        counted.close()
        sums.append(int(sum(found)))
    assert sums[0] == sums[1] > 0


def test_positions_of_a_picture_beside_plain_ones_do_not_count(counted: Counted) -> None:
    packed = pack(counted.batch, counted.processor.tokenizer.pad_token_id, one=True)
    plain = packed.inputs["position_ids"]
    inputs = {"input_ids": packed.inputs["input_ids"], "position_ids": plain.repeat(4, 1, 1)}
    inputs["position_ids"][1:] = 7
    found = counted.ours(set())
    hook = next(iter(counted.model._forward_pre_hooks.values()))
    hook(counted.model, (), inputs)
    counted.close()
    squares = int(packed.per_sample(packed.mask()).square().sum())
    flops = Flops(counted.model, counted.anatomy, counted.parameters)
    assert int(sum(found)) == flops.count_tokens(plain.numel(), False) + squares * flops.of_a_pair(False)
