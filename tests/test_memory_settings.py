"""Sequences under the settings that save memory: killed, resumed, refused."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file

from lmmcl import Mitigation, TaskSequenceDataModule
from lmmcl.callbacks import EMA, EWC, GPM, LoRA, LwF, WiSEFT
from lmmcl.errors import UserError
from lmmcl.export.stage import export
from lmmcl.parallel.strategy import FSDP2Strategy
from lmmcl.run.checkpoint import Checkpoint
from lmmcl.sequence.memory_check import check_memory_settings
from tests.tiny import tiny_checkpoint
from tests.tiny_run import contents
from tests.toy import toy_data, toy_module, toy_task, toy_trainer
from tests.two_processes import Killed, KillerAtStep

BF16: dict[str, Any] = {"train_dtype": "bf16", "lr": 1e-3}
WAYS: list[dict[str, Any]] = [
    {**BF16, "rounding": "stochastic"},
    {**BF16, "rounding": "kahan", "optimizer": "adamw_8bit"},
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny"), dtype=torch.bfloat16)


def fit(
    checkpoint: Path, run: Path, *callbacks: Callback, kill_at: int | None = None, **options: Any
) -> None:
    precision = options.pop("precision", "bf16-mixed")
    trainer = toy_trainer(callbacks=[KillerAtStep(kill_at), *callbacks], precision=precision)
    with nullcontext() if kill_at is None else pytest.raises(Killed):
        trainer.fit(toy_module(checkpoint, run, **options), toy_data())


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_killed_and_resumed_it_is_the_same_to_the_byte(
    way: dict[str, Any], checkpoint: Path, tmp_path: Path
) -> None:
    fit(checkpoint, tmp_path / "whole", LwF(), WiSEFT(0.3), **way)
    fit(checkpoint, tmp_path / "killed", LwF(), WiSEFT(0.3), kill_at=5, **way)
    last = max((tmp_path / "killed" / "last").iterdir())
    reader = Checkpoint(last).reader()
    moments = [key for key in reader.keys() if key.endswith("weight/exp_avg")]
    expected = torch.uint8 if "optimizer" in way else torch.float32
    assert moments and {reader.dtype(key) for key in moments} == {expected}
    fit(checkpoint, tmp_path / "killed", LwF(), WiSEFT(0.3), resume=True, **way)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    stage = load_file(tmp_path / "whole" / "stages" / "02-second" / "weights.safetensors")
    assert {tensor.dtype for tensor in stage.values()} == {torch.bfloat16}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("wide"), hidden=64, dtype=torch.bfloat16)


def test_lora_over_frozen_weights_in_4_bits_is_resumed_to_the_byte_and_exported_over_the_checkpoints_own(
    wide: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"frozen_bits": 4, "recipe": "sa_proj", "lr": 1e-2}

    def lora() -> LoRA:
        return LoRA(rank=2, alpha=2.0, at_end="keep")

    fit(wide, tmp_path / "whole", lora(), **options)
    fit(wide, tmp_path / "killed", lora(), kill_at=5, **options)
    fit(wide, tmp_path / "killed", lora(), resume=True, **options)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    told = export(tmp_path / "whole", None, tmp_path / "export", dtype="float32")
    assert "frozen weights in 4 bits" in str(told)
    stage = load_file(tmp_path / "whole" / "stages" / "02-second" / "weights.safetensors")
    base, plain = (load_file(folder / "model.safetensors") for folder in (wide, tmp_path / "export"))
    learned = [
        name for name in base if name.endswith("layers.0.self_attn.q_proj.weight") and "language" in name
    ]
    down, up = (
        next(t for n, t in stage.items() if f"language_model.layers.0.self_attn.q_proj.lora_{of}" in n)
        for of in "AB"
    )
    torch.testing.assert_close(plain[learned[0]], base[learned[0]].float() + up @ down)
    others = [name for name in base if name.endswith(("mlp.gate_proj.bias", "norm.weight"))]
    assert others and all(torch.equal(plain[name], base[name].float()) for name in others)


def test_frozen_bits_are_refused_where_they_cannot_be(wide: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"frozen_bits: 8 cannot be used with LoRA: at_end: merge .* Use LoRA.at_end: keep, .* or leave",
    ):
        fit(wide, tmp_path / "run", LoRA(rank=2), frozen_bits=8)
    with pytest.raises(UserError, match=r"model\.frozen_bits: 8 .* every one trains"):
        toy_trainer(precision="bf16-mixed").fit(
            toy_module(wide, tmp_path / "run", recipe="llm", frozen_bits=8),
            TaskSequenceDataModule([toy_task("one", 0)], batch_size=8),
        )


def test_frozen_bits_on_fsdp2_are_refused_with_both_ways_out() -> None:
    module = SimpleNamespace(hparams={"frozen_bits": 4, "train_dtype": "fp32", "rounding": None})
    trainer = SimpleNamespace(strategy=FSDP2Strategy())
    with pytest.raises(
        UserError, match=r"model.frozen_bits: 4 .* Leave it out, .* or take trainer.strategy: ddp\."
    ):
        check_memory_settings(trainer, module)  # type: ignore[arg-type]


@pytest.mark.parametrize("mitigation", [EMA(), EWC(), GPM()], ids=lambda one: one.name)
def test_what_sums_up_in_the_dtype_of_the_weights_is_refused_under_bf16(
    mitigation: Mitigation, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"train_dtype: bf16 cannot be used with {mitigation.name}"):
        fit(checkpoint, tmp_path / "run", mitigation, **BF16)


def test_bf16_is_refused_where_forwards_are_in_fp32(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs trainer\.precision: bf16-mixed"):
        fit(checkpoint, tmp_path / "run", precision="32-true", **BF16)


def test_bf16_is_refused_where_the_checkpoint_holds_more(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs a checkpoint in bf16, and .* in float32"):
        fit(tiny, tmp_path / "run", **BF16)


def test_moments_are_not_offloaded_from_a_cpu(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="adamw_offload moves moments from a GPU"):
        fit(checkpoint, tmp_path / "run", optimizer="adamw_offload")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"optimizer": "adam"}, "model.optimizer must be one of adamw, adamw_8bit"),
        ({"frozen_bits": 2}, "model.frozen_bits must be 8 or 4, got 2"),
        ({"train_dtype": "fp16"}, "model.train_dtype must be one of fp32, bf16"),
        ({"rounding": "kahan"}, "model.rounding is for model.train_dtype: bf16"),
        ({"rounding": "nearest", "train_dtype": "bf16"}, "swallows most"),
        ({"from_scratch": True, "train_dtype": "bf16"}, "model.from_scratch makes them in fp32"),
    ],
)
def test_a_setting_that_cannot_be_is_named(
    options: dict[str, Any], told: str, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=told):
        toy_module(checkpoint, tmp_path / "run", **options)
