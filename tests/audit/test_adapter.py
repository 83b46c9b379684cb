"""Adapters of peft, folded: the model that peft's own forward is, in the base's dtypes, and nothing written."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PrefixTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from lmmcl.audit.adapter import fold, is_adapter
from lmmcl.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")  # peft asks in an old way
LINEARS = ["q_proj", "v_proj", "up_proj"]
KINDS: dict[str, Any] = {
    "LoRA": LoraConfig(r=4, lora_alpha=8, target_modules=LINEARS),
    "rsLoRA, patterns": LoraConfig(
        r=4, target_modules=LINEARS, use_rslora=True, rank_pattern={"up_proj": 2}, alpha_pattern={"q_proj": 3}
    ),
    "DoRA": LoraConfig(r=4, target_modules=LINEARS, use_dora=True),
    "saved modules": LoraConfig(r=4, target_modules=LINEARS, modules_to_save=["multi_modal_projector"]),
    "IA3": IA3Config(target_modules=["v_proj", "up_proj"], feedforward_modules=["up_proj"]),
}


def adapter(base: Path, to: Path, config: Any, dtype: torch.dtype = torch.float32) -> Any:
    """Writes a random adapter and gives the model that it makes."""
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=dtype)
    wrapped = get_peft_model(model, config)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    wrapped.save_pretrained(to)
    return wrapped.eval()


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_folded_model_says_what_peft_says(kind: str, tiny: Path, tmp_path: Path) -> None:
    wrapped = adapter(tiny, tmp_path / "adapter", KINDS[kind])
    before = (tiny / "model.safetensors").read_bytes()
    names = {name for name, _ in AutoModelForImageTextToText.from_pretrained(tiny).named_parameters()}
    folded = fold(AutoModelForImageTextToText.from_pretrained(tiny), str(tmp_path / "adapter")).eval()
    assert {name for name, _ in folded.named_parameters()} == names
    ids = torch.arange(5, 20)[None]
    with torch.no_grad():
        torch.testing.assert_close(folded(input_ids=ids).logits, wrapped(input_ids=ids).logits)
    assert (tiny / "model.safetensors").read_bytes() == before


def test_bf16_weights_are_rounded_once(tiny: Path, tmp_path: Path) -> None:
    adapter(tiny, tmp_path / "adapter", KINDS["LoRA"])
    model = AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.bfloat16)
    name = next(
        n for n, _ in model.named_parameters() if "language" in n and n.endswith("0.mlp.up_proj.weight")
    )
    start = dict(model.named_parameters())[name].detach().float()
    held = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    factors = {
        end: next(v for k, v in held.items() if "layers.0.mlp.up_proj" in k and end in k)
        for end in ("_A", "_B")
    }
    folded = fold(model, str(tmp_path / "adapter"))
    found = dict(folded.named_parameters())[name]
    assert {parameter.dtype for parameter in folded.parameters()} == {torch.bfloat16}
    exact = start.double() + 2.0 * (factors["_B"].double() @ factors["_A"].double())
    assert torch.equal(found, exact.bfloat16())


def test_what_is_no_change_of_weights_or_of_another_base_is_refused(tiny: Path, tmp_path: Path) -> None:
    prefix = PrefixTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=2, num_layers=2, token_dim=16, num_attention_heads=2
    )
    (tmp_path / "prefix").mkdir()
    prefix.save_pretrained(str(tmp_path / "prefix"))
    adapter(tiny, tmp_path / "lora", KINDS["LoRA"])
    shutil.copytree(tmp_path / "lora", tmp_path / "odd")
    held = load_file(tmp_path / "odd" / "adapter_model.safetensors")
    held["base_model.model.elsewhere.lora_A.weight"] = torch.zeros(4, 32)
    save_file(held, tmp_path / "odd" / "adapter_model.safetensors")
    shutil.copytree(tmp_path / "lora", tmp_path / "less")
    del held["base_model.model.elsewhere.lora_A.weight"]
    save_file(dict(list(held.items())[1:]), tmp_path / "less" / "adapter_model.safetensors")
    for name, part in (
        ("prefix", "must be a change of weights"),
        ("odd", "elsewhere"),
        ("less", "must fit BASE tensor by tensor"),
    ):
        with pytest.raises(UserError, match=part):
            fold(AutoModelForImageTextToText.from_pretrained(tiny), str(tmp_path / name))


def test_a_folder_is_an_adapter_where_it_holds_no_model(tiny: Path, tmp_path: Path) -> None:
    adapter(tiny, tmp_path / "adapter", KINDS["LoRA"])
    assert is_adapter(str(tmp_path / "adapter"))
    assert not is_adapter(str(tiny))
