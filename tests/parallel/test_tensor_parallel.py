"""A decoder that a group of processes cuts among itself learns, answers and is saved as on one process."""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from peft import LoraConfig
from peft.tuners.lora import Linear as LoraLinear
from safetensors.torch import load_file
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.debug import _clear_sharding_prop_cache
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import AutoModelForImageTextToText, Qwen2Config
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.llava import LlavaConfig

from lmmcl.callbacks import OLoRA
from lmmcl.data_parallel import DATA, TENSOR, arrange, share
from lmmcl.errors import UserError
from lmmcl.parallel.strategy import FSDP2Strategy
from lmmcl.parallel.tensor_parallel import check_plan, cut
from lmmcl.sequence.memory_check import check_memory_settings
from lmmcl.weights import global_index, holds_first, is_cut, local
from tests.torchrun import torchrun
from tests.toy import toy_module
from tests.two_processes import fit

STAGES = ("01-first", "02-second")


def on_meta(name: str, **text: int) -> nn.Module:
    config = CONFIG_MAPPING[name]()
    for key, value in text.items():
        setattr(config.get_text_config(), key, value)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    assert isinstance(model, nn.Module)
    return model


def small_llava() -> nn.Module:
    sizes: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlavaConfig(
        text_config=Qwen2Config(hidden_size=24, intermediate_size=18, vocab_size=50, **sizes),
        vision_config={"model_type": "siglip_vision_model", **vision},
    )
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)  # type: ignore[no-any-return]  # untyped


@pytest.fixture
def four_processes() -> Iterator[Callable[[int], DeviceMesh]]:
    """Makes this process any of four, two by two, whose collectives do nothing."""

    def become(rank: int) -> DeviceMesh:
        if dist.is_initialized():
            dist.destroy_process_group()
        _clear_sharding_prop_cache()  # it remembers where in a mesh a process is
        dist.init_process_group("fake", rank=rank, world_size=4, store=FakeStore())
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=(DATA, TENSOR))
        arrange(mesh)
        return mesh

    yield become
    arrange(None)
    dist.destroy_process_group()
    _clear_sharding_prop_cache()


def test_every_value_is_held_first_by_one_of_four_processes(
    four_processes: Callable[[int], DeviceMesh],
) -> None:
    counts: dict[str, torch.Tensor] = {}
    shares, cuts = [], 0
    for rank in range(4):
        mesh = four_processes(rank)
        model = small_llava()
        cut(model, mesh[TENSOR])
        for name, module in model.named_modules():
            if type(module).__name__ == "Qwen2DecoderLayer":
                fully_shard(model.get_submodule(name), mesh=mesh[DATA])
        fully_shard(model, mesh=mesh[DATA])
        shares.append(share())
        cuts = sum(is_cut(parameter) for parameter in model.parameters())
        for name, parameter in model.named_parameters():
            held = counts.setdefault(name, torch.zeros(parameter.numel(), dtype=torch.int64))
            if holds_first(parameter):
                held[global_index(parameter, 0, local(parameter).numel(), torch.device("cpu"))] += 1
    assert shares == [(0, 2), (0, 2), (1, 2), (1, 2)]
    assert cuts == 2 * 10  # seven matrices and three biases in each layer
    assert all(bool((held == 1).all()) for held in counts.values())


@pytest.mark.parametrize(
    ("name", "text", "size", "reason"),
    [
        ("qwen3_vl", {}, 2, "no tensor-parallel plan for the decoder of Qwen3VL"),
        (
            "paligemma",
            {},
            2,
            "the heads of model.language_model.layers.0.self_attn.k_proj, which is 1; got 2",
        ),
        ("llava", {"num_key_value_heads": 4}, 8, "the heads of .*k_proj, which is 4; got 8"),
        ("llava", {"intermediate_size": 11009}, 2, "the width of .*gate_proj, which is 11009; got 2"),
        ("glm4v_moe", {"num_hidden_layers": 2}, 2, "does not know the style moe_tp_experts"),
    ],
)
def test_what_cannot_be_cut_is_refused_without_weights(
    name: str, text: dict[str, int], size: int, reason: str
) -> None:
    with pytest.raises(UserError, match=f"^trainer.strategy: FSDP2Strategy.tensor_parallel.*{reason}"):
        check_plan(on_meta(name, **text), size)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("compile", True, "does not go with FSDP2Strategy.tensor_parallel"),
        ("optimizer", "adamw_8bit", "does not go with FSDP2Strategy.tensor_parallel"),
        ("frozen_bits", 8, "fsdp2 would cast bytes"),
    ],
)
def test_settings_that_need_whole_tensors_are_refused_before_anything_is_loaded(
    key: str, value: Any, said: str
) -> None:
    trainer: Any = SimpleNamespace(strategy=FSDP2Strategy(tensor_parallel=2), precision="bf16-mixed")
    plain = {"compile": False, "frozen_bits": None, "optimizer": "adamw", "train_dtype": None}
    module: Any = SimpleNamespace(hparams=plain, bf16=True, stage_callbacks=[], mitigations=[])
    check_memory_settings(trainer, module)
    module.hparams = {**plain, key: value}
    with pytest.raises(UserError, match=f"^model.{key}: {value} .*{said}"):
        check_memory_settings(trainer, module)


def test_a_dense_model_is_cut_although_its_plan_names_experts_too() -> None:
    check_plan(on_meta("gemma4"), 2)


def test_an_adapter_is_cut_as_the_linear_that_it_wraps(four_processes: Callable[[int], DeviceMesh]) -> None:
    model = small_llava()
    layer = model.get_submodule("model.language_model.layers.0.self_attn")
    for name in ("q_proj", "o_proj"):
        with torch.device("meta"):
            setattr(layer, name, LoraLinear(getattr(layer, name), "task", LoraConfig(r=2), r=2, lora_alpha=2))
    cut(model, four_processes(0)[TENSOR])
    found = {name for name, parameter in layer.named_parameters() if is_cut(parameter)}
    assert {name for name in found if "lora" in name} == {
        "q_proj.lora_B.task.weight",
        "o_proj.lora_A.task.weight",
    }
    assert {"q_proj.base_layer.weight", "o_proj.base_layer.weight", "k_proj.weight"} <= found


def test_layers_that_are_no_plain_linears_are_refused() -> None:
    class Packed(nn.Linear):
        """Holds its weight in another form."""

    model = small_llava()
    layer = model.get_submodule("model.language_model.layers.0.mlp")
    layer.up_proj = Packed(24, 18, device="meta")
    with pytest.raises(UserError, match=r"layers\.0\.mlp\.up_proj is a Packed, and only plain linear layers"):
        check_plan(model, 2)


def test_a_group_must_divide_the_devices_and_have_a_process() -> None:
    with pytest.raises(UserError, match=r"FSDP2Strategy\.tensor_parallel must be at least 1, got 0"):
        FSDP2Strategy(tensor_parallel=0)
    strategy = FSDP2Strategy(tensor_parallel=2)
    strategy.parallel_devices = [torch.device("cpu")] * 3
    with pytest.raises(UserError, match="must divide the number of devices, which is 3; got 2"):
        strategy.setup_environment()


def test_rows_are_dealt_over_all_processes_where_none_share_them(
    four_processes: Callable[[int], DeviceMesh],
) -> None:
    four_processes(3)
    assert share() == (1, 2)
    arrange(None)
    assert share() == (3, 4)


def test_o_lora_says_that_it_needs_whole_rows(
    four_processes: Callable[[int], DeviceMesh], tiny: Path, tmp_path: Path
) -> None:
    four_processes(0)
    module = toy_module(tiny, tmp_path / "run")
    with pytest.raises(UserError, match="OLoRA compares whole rows"):
        OLoRA().adapt(module, nn.Linear(1, 1))


def weights(run: Path, stage: str) -> dict[str, torch.Tensor]:
    return load_file(run / "stages" / stage / "weights.safetensors")


def matrix(run: Path) -> Any:
    return json.loads((run / "matrix.json").read_text())


def counted(run: Path) -> Counter[tuple[str, ...]]:
    """By stage and phase: samples, tokens and operations, over all processes, each row once."""
    total: Counter[tuple[str, ...]] = Counter()
    for row in csv.DictReader((run / "logs" / "cost.csv").read_text().splitlines()):
        for number in ("samples", "tokens", "flops"):
            total[row["stage"], row["phase"], number] += int(row[number])
    return total


@pytest.mark.slow
def test_a_group_of_two_processes_is_one_process(tiny: Path, tmp_path: Path) -> None:
    fit(tiny, tmp_path / "one", "auto", 1)
    torchrun(2, "-m", "tests.tensor_parallel", tiny, tmp_path, timeout=240)
    # Cut, then sharded only, then on one process: each goes on from the checkpoint of the one before.
    fit(tiny, tmp_path / "cut-to-fsdp2-to-one", "auto", 1, resume=True)
    for run in (tmp_path / "cut", tmp_path / "cut-to-fsdp2-to-one"):
        for stage in STAGES:
            mine, other = weights(run, stage), weights(tmp_path / "one", stage)
            assert mine.keys() == other.keys()
            for name in mine:
                torch.testing.assert_close(mine[name], other[name], rtol=0, atol=1e-5, msg=f"{run} {name}")
        assert matrix(run) == matrix(tmp_path / "one")
    assert counted(tmp_path / "cut") == counted(tmp_path / "one")
