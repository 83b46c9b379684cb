"""The second moments of what enters the linear layers, against a plain forward."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText
from typing_extensions import override

import lmmcl.probing.layer_inputs
from lmmcl import ContinualLMM, StageCallback, Task, TaskSequenceDataModule
from lmmcl.probing.layer_inputs import input_moments, linear_layers
from tests.toy import toy_module, toy_task, toy_trainer

ROWS_SEEN = 4


class Look(StageCallback):
    """Takes the moments before the first step."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, Tensor] = {}
        self.expected: dict[str, Tensor] = {}
        self.names: set[str] = set()
        self.modes: set[bool] = set()

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        rows = module.data.train_rows(0)[:ROWS_SEEN]
        layers = linear_layers(module, module.parameters_by_name().keys())
        self.names = set(layers)
        self.found = dict(input_moments(module, rows, layers))
        self.modes = {one.training for one in module.model.modules()}
        self.expected = reference(module, rows, layers)


def reference(module: ContinualLMM, rows: Any, layers: Mapping[str, nn.Linear]) -> dict[str, Tensor]:
    """A second whole model with full logits, and the inputs of its layers one after the other."""
    model = AutoModelForImageTextToText.from_pretrained(module.hparams["path"], attn_implementation="eager")
    paths = {name: name.removesuffix(".weight") for name in layers}
    sums = {
        name: torch.zeros(layer.in_features, layer.in_features).double() for name, layer in layers.items()
    }
    for name, path in paths.items():

        def add(layer: nn.Module, arguments: tuple[Tensor], name: str = name) -> None:
            for one in arguments[0].detach().reshape(-1, len(sums[name])).double():
                sums[name] += torch.outer(one, one)

        model.get_submodule(path).register_forward_pre_hook(add)
    for row in rows:
        with torch.no_grad():
            model(**module.data.collator.train([row]).inputs)
    return sums


@pytest.fixture(scope="module")
def look(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Look:
    folder, look = tmp_path_factory.mktemp("look"), Look()
    data = TaskSequenceDataModule([toy_task("first", 0, max_train_samples=8)], batch_size=8)
    toy_trainer(callbacks=[look]).fit(toy_module(tiny, folder / "run"), data)
    return look


def test_they_are_the_sums_of_outer_products_of_all_inputs(look: Look) -> None:
    assert look.found.keys() == look.expected.keys() and len(look.found) > 10
    for name, moments in look.found.items():
        torch.testing.assert_close(moments, look.expected[name], rtol=1e-4, atol=1e-5, msg=name)


def test_the_model_is_left_in_training(look: Look) -> None:
    assert look.modes == {True}


def test_linear_layers_are_those_of_towers_and_decoder_but_not_the_head(look: Look) -> None:
    assert any("q_proj" in name for name in look.names) and any("down_proj" in name for name in look.names)
    assert any("vision" in name for name in look.names)
    assert not any("lm_head" in name or "embed" in name or "norm" in name for name in look.names)
    assert all(name.endswith(".weight") for name in look.names)


def test_few_matrices_at_once_give_the_same(
    look: Look, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmmcl.probing.layer_inputs, "_AT_ONCE", 1)
    passes: list[int] = []
    whole = lmmcl.probing.layer_inputs._pass

    def counted(module: Any, rows: Any, layers: Any) -> Any:
        passes.append(len(layers))
        return whole(module, rows, layers)

    monkeypatch.setattr(lmmcl.probing.layer_inputs, "_pass", counted)
    again = Look()
    data = TaskSequenceDataModule([toy_task("first", 0, max_train_samples=8)], batch_size=8)
    toy_trainer(callbacks=[again]).fit(toy_module(tiny, tmp_path / "run"), data)
    assert passes == [1] * len(look.found)
    assert all(torch.equal(again.found[name], moments) for name, moments in look.found.items())


class Filled(StageCallback):
    """Takes the moments of text alone, once beside the filler's picture and once without."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, Tensor]] = []

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        rows = [row for row in module.data.train_rows(0) if not row.images][:2]
        assert rows
        layers = linear_layers(module, module.parameters_by_name().keys())
        for filler in (False, True):
            module.data.collator.always_image = filler
            self.found.append(dict(input_moments(module, rows, layers)))


def test_the_filler_of_a_sample_without_picture_does_not_count(tiny: Path, tmp_path: Path) -> None:
    filled = Filled()
    data = TaskSequenceDataModule([toy_task("first", 0, text=True, max_train_samples=8)], batch_size=8)
    toy_trainer(callbacks=[filled]).fit(toy_module(tiny, tmp_path / "run"), data)
    without, beside = filled.found
    assert any(moments.any() for moments in without.values())
    for name, moments in without.items():
        torch.testing.assert_close(beside[name], moments, rtol=1e-4, atol=1e-5, msg=name)
        assert "vision" not in name or not beside[name].any()
