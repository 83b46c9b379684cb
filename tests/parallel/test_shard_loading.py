"""A model's values are taken out of it and put back: parameters, ties, buffers that no state dict holds, attributes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lmmcl.errors import UserError
from lmmcl.loading import Checkpoint
from lmmcl.parallel.shard_loading import _Plan, fill_, take_values
from tests.tiny import tiny_checkpoint


class Everything(nn.Module):
    """Tensors in all places in which a module can hold one."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 3)
        self.head = nn.Linear(3, 7, dtype=torch.bfloat16)
        self.tied = nn.Linear(3, 7, bias=False)
        self.tied.weight = self.embed.weight
        self.embed.weight.requires_grad_(False)
        self.register_buffer("counted", torch.tensor(5))
        self.register_buffer("angles", torch.randn(4), persistent=False)
        self.register_buffer("nothing", None)
        self.scale = torch.tensor(3.5)
        self.head.scale = self.scale


def test_the_model_that_stays_behind_has_everything_but_values() -> None:
    model = Everything()
    before = {name: (p.shape, p.dtype, p.requires_grad) for name, p in model.named_parameters()}
    values = take_values(model)
    assert values.keys() == {"embed.weight", "head.weight", "head.bias", "counted", "angles", "scale"}
    assert {name: (p.shape, p.dtype, p.requires_grad) for name, p in model.named_parameters()} == before
    assert all(t.is_meta for t in (*model.parameters(), *model.buffers(), model.scale))
    assert model.tied.weight is model.embed.weight and model.head.scale is model.scale
    assert take_values(model) == {}


def test_filled_again_it_is_what_it_was_and_the_values_are_let_go() -> None:
    model = Everything()
    values = take_values(model)
    kept = dict(values)
    fill_(model, values, torch.device("cpu"))
    assert values == {}
    assert torch.equal(model.embed.weight, kept["embed.weight"]) and torch.equal(model.scale, kept["scale"])
    assert torch.equal(model.head.weight, kept["head.weight"]) and model.head.weight.dtype == torch.bfloat16
    assert torch.equal(model.get_buffer("angles"), kept["angles"]) and int(model.get_buffer("counted")) == 5
    assert model.tied.weight is model.embed.weight and model.head.scale is model.scale
    assert not model.embed.weight.requires_grad and model.head.bias.requires_grad
    assert model.state_dict().keys() == Everything().state_dict().keys()


def test_what_trains_becomes_a_master_while_there_are_no_values() -> None:
    model = Everything()
    values = take_values(model)
    model.head.weight.data = model.head.weight.data.float()
    expected = values["head.weight"].float()
    fill_(model, values, torch.device("cpu"))
    assert model.head.weight.dtype == torch.float32 and torch.equal(model.head.weight, expected)


def test_a_tensor_that_one_process_lacks_is_an_error_with_its_name() -> None:
    model = Everything()
    values = take_values(model)
    del values["angles"]
    with pytest.raises(
        RuntimeError, match="angles is in the model of one process and not in that of another"
    ):
        fill_(model, values, torch.device("cpu"))


def test_a_skeleton_opens_no_weights_and_is_the_model_else(tmp_path: Path) -> None:
    checkpoint = Checkpoint(str(tiny_checkpoint(tmp_path / "model")))
    model = checkpoint.model(True, 0, "eager")
    (tmp_path / "model" / "model.safetensors").unlink()
    skeleton = checkpoint.skeleton(torch.float32, "eager")
    theirs, ours = ([(n, p.shape, p.dtype) for n, p in m.named_parameters()] for m in (model, skeleton))
    assert theirs == ours
    assert [n for n, _ in model.named_buffers()] == [n for n, _ in skeleton.named_buffers()]
    assert all(t.is_meta for t in (*skeleton.parameters(), *skeleton.buffers()))
    assert not any(module.training for module in skeleton.modules())
    configs: list[Any] = [model.config, skeleton.config]
    assert [config._attn_implementation for config in configs] == ["eager", "eager"]


def test_another_model_than_the_first_process_has_is_refused(tmp_path: Path) -> None:
    checkpoint = Checkpoint(str(tiny_checkpoint(tmp_path / "model")))
    plan = _Plan.of(checkpoint.model(True, 0, "eager"))
    config = tmp_path / "model" / "config.json"
    wider = json.loads(config.read_text())
    wider["text_config"]["intermediate_size"] *= 2
    config.write_text(json.dumps(wider))
    with pytest.raises(
        UserError, match=r"process 0 builds another model of .* than the first \(.*mlp.* differs\)"
    ):
        plan.follow(checkpoint.path, checkpoint.skeleton(torch.float32, "eager"))
