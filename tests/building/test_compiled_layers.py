"""``model.compile``: decoder layers give the gradients that they give uncompiled, and no length compiles them again."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lmmcl.building.compiled_layers import compile_layers
from lmmcl.data.batches.batch import Batch
from lmmcl.data.batches.collate import Collator
from lmmcl.data.batches.micro_batches import PADDED, Layout, MicroBatches
from lmmcl.evaluation.generate import generate
from lmmcl.loading import Checkpoint
from lmmcl.losses import cross_entropy
from lmmcl.outputs.forward import AnswerForward
from lmmcl.structure.anatomy import Anatomy
from tests.toy import ToySource, toy_data, toy_module, toy_trainer

# Dynamo reads .grad of a layer's input, which is not a leaf.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")

Graphs = list[torch.fx.GraphModule]


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Graphs]:
    """What torch traces of compiled layers; it runs as it was traced, without code being made of it."""
    found: Graphs = []
    compile_in_place = nn.Module.compile

    def run_as_traced(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        found.append(graph)
        return graph.forward

    def without_generated_code(layer: nn.Module, **options: Any) -> None:
        compile_in_place(layer, backend=run_as_traced, **options)

    monkeypatch.setattr(nn.Module, "compile", without_generated_code)
    torch._dynamo.reset()
    with torch._dynamo.config.patch(recompile_limit=8):
        yield found
    torch._dynamo.reset()


def test_a_run_compiles_its_decoder_layers(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[list[str]] = []
    monkeypatch.setattr(
        "lmmcl.building.build.compile_layers", lambda model, paths: compiled.append(list(paths))
    )
    module = toy_module(tiny, tmp_path / "run", compile=True)
    toy_trainer().fit(module, toy_data(max_eval_samples=1))
    assert compiled == [list(module.anatomy.decoder_layers)]


def test_kinds_of_forwards_are_compiled_and_never_a_length(tiny: Path, graphs: Graphs) -> None:
    checkpoint = Checkpoint(str(tiny))
    plain: Any = checkpoint.model(True, 0, "eager").train()
    model: Any = checkpoint.model(True, 0, "eager").train()
    compile_layers(model, Anatomy.of(model).decoder_layers)
    collator = Collator(checkpoint.processor(), None, always_image=False)
    rows = ToySource(0, text=True).split("train")

    forwards = {one: AnswerForward(one, bf16=False) for one in (plain, model)}

    def gradients(of: Any, batch: Batch) -> list[Tensor]:
        loss = forwards[of].token_outputs(batch).map(cross_entropy).sum()
        return list(
            torch.autograd.grad(loss, [p for p in of.parameters() if p.requires_grad], allow_unused=True)
        )

    def run(sizes: list[int], layout: Layout = PADDED) -> int:
        """Graphs that forwards of so many samples each add; their gradients are right."""
        before = len(graphs)
        for size in sizes:
            batch = MicroBatches(collator, layout).one(rows[size : 2 * size])
            for one, other in zip(gradients(model, batch), gradients(plain, batch), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        return len(graphs) - before

    packed, one = Layout(None, packing=True), Layout(None, packing=True, one=True)
    assert run([3]) == 1, "one graph for all layers"
    assert run([2, 5, 9]) == 0
    assert run([1]) == 1, "torch takes a size of one for a constant"
    assert run([9], one) == 0, "one sequence of many samples is no other kind than one of one"
    assert run([1, 7]) + run([2, 7], one) == 0
    assert run([10], packed) <= 1, "positions of their own for every sequence"
    before = len(graphs)
    with forwards[model].inference():
        assert len(generate(model, checkpoint.processor(), collator.prompts(rows[:3]), 3)) == 3
    assert len(graphs) == before, "a cache would be compiled for every layer and every state"
