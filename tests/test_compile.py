"""``model.compile``: every decoder layer is compiled, and the run ends with the weights of one that was not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lmmcl import ContinualLMM
from tests.toy import toy_data, toy_module, toy_trainer


def fitted(checkpoint: Path, run: Path, **options: Any) -> ContinualLMM:
    module = toy_module(checkpoint, run, **options)
    toy_trainer().fit(module, toy_data())
    return module


@pytest.mark.slow
# Dynamo reads .grad of a layer's input, which is not a leaf.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_run_ends_with_the_same_weights(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[nn.Module] = []
    compile_in_place = nn.Module.compile

    def without_generated_code(layer: nn.Module, **options: Any) -> None:
        compiled.append(layer)
        compile_in_place(layer, backend="aot_eager", **options)  # needs no compiler of C++

    monkeypatch.setattr(nn.Module, "compile", without_generated_code)
    torch._dynamo.reset()
    plain = fitted(tiny, tmp_path / "plain")
    assert not compiled
    module = fitted(tiny, tmp_path / "compiled", compile=True)
    assert compiled == [module.model.get_submodule(path) for path in module.anatomy.decoder_layers]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    for one, other in zip(plain.model.parameters(), module.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
