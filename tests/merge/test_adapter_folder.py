"""An adapter's folder reads as the model that peft makes of it."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForImageTextToText

from lmmcl.errors import UserError
from lmmcl.merge import open_adapter, open_model, open_tuned
from lmmcl.merge.names import parameter_names


def adapter(base: Path, folder: Path, **settings: Any) -> dict[str, Tensor]:
    """Saves a random adapter of peft's; gives the parameters of the model that peft merges."""
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_pretrained(base)
    wanted = {"r": 4, "lora_alpha": 6, "init_lora_weights": False, "target_modules": ["q_proj"], **settings}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tied embeddings
        wrapped = get_peft_model(model, LoraConfig(**wanted))
        with torch.no_grad():
            for name, parameter in wrapped.named_parameters():
                if "modules_to_save" in name:
                    parameter.add_(1)
        wrapped.save_pretrained(str(folder), save_embedding_layers=False)
        return dict(wrapped.merge_and_unload().state_dict())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True},
        {
            "target_modules": ["q_proj", "up_proj"],
            "rank_pattern": {"up_proj": 2},
            "alpha_pattern": {"up_proj": 5},
        },
        {"target_modules": ["embed_tokens"]},
        {"modules_to_save": ["linear_1"]},
        {"bias": "lora_only"},
    ],
    ids=["plain", "rslora", "patterns", "embedding", "saved", "bias"],
)
def test_it_reads_as_peft_merges_it(tiny: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    expected = adapter(tiny, tmp_path / "adapter", **settings)
    base = open_model(tiny)
    folded = open_adapter(base, tmp_path / "adapter")
    moved = 0
    for key, name in parameter_names(base).items():
        torch.testing.assert_close(folded.read(key), expected[name], rtol=1e-5, atol=1e-6)
        if folded.shape(key):
            whole = folded.read(key).flatten()
            middle = len(whole) // 2
            for start, stop in ((3, middle), (middle + 3, len(whole) - 1)):
                part = folded.part(key, start, stop)
                torch.testing.assert_close(part, whole[start:stop], rtol=1e-6, atol=1e-7)
        moved += not torch.equal(folded.read(key), base.read(key))
    assert moved >= 1


def test_a_tuned_model_may_be_given_as_its_adapter(tiny: Path, tmp_path: Path) -> None:
    adapter(tiny, tmp_path / "adapter")
    base = open_model(tiny)
    one, other = open_tuned(base, tmp_path / "adapter"), open_adapter(base, tmp_path / "adapter")
    assert all(torch.equal(one.read(key), other.read(key)) for key in base.keys())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, "is an adapter of type IA3; only LORA can be folded"),
        ({"use_dora": True}, "uses use_dora, so it is no sum"),
        ({"init_lora_weights": "pissa_niter_4"}, "uses init_lora_weights: pissa_niter_4, so it is no sum"),
        ({"lora_alpha": None}, "adapter_config.json: lora_alpha must be a number, .*got None"),
        (
            {"alpha_pattern": {"up(": 3}},
            r"adapter_config.json: alpha_pattern must hold regular expressions \(.*got 'up\('",
        ),
        (
            {"rank_pattern": {"[a": 3}},
            r"adapter_config.json: rank_pattern must hold regular expressions \(.*got '\[a'",
        ),
        ({"alpha_pattern": {"up": "a"}}, "alpha_pattern must map regular expressions to numbers, got {'up'"),
    ],
)
def test_what_is_no_sum_with_the_base_or_makes_no_sense_is_refused(
    tiny: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    adapter(tiny, tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    told = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({key: value for key, value in told.items() if value is not None}))
    with pytest.raises(UserError, match=message):
        open_adapter(open_model(tiny), tmp_path / "adapter")


def test_an_adapter_of_another_base_is_refused(tiny: Path, tmp_path: Path) -> None:
    adapter(tiny, tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    held = load_file(path)
    key = next(key for key in held if "lora_B" in key)
    module = key.removeprefix("base_model.model.").removesuffix(".lora_B.weight")

    def told(tensors: dict[str, Tensor]) -> str:
        folder = tmp_path / "other"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "adapter", folder)
        save_file(tensors, folder / "adapter_model.safetensors")
        with pytest.raises(UserError) as error:
            open_adapter(open_model(tiny), folder)
        return str(error.value)

    wide = {**held, key: torch.cat([held[key]] * 2)}
    assert "which in" in told(wide) and "(64, 32)" in told(wide)
    renamed = {k.replace("layers.0.", "layers.70."): v for k, v in held.items()}
    assert "layers.70." in told(renamed) and "which" in told(renamed)
    assert f"{module}: the adapter holds lora_A without its counterpart" in told(
        {k: v for k, v in held.items() if k != key}
    )
    assert "which no plain LoRA has" in told(
        {**held, key.replace("lora_B", "lora_magnitude_vector"): torch.ones(3)}
    )
