"""WiSE-FT's limits, its merge, and its rows of the matrix."""

import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from safetensors.torch import load_file
from torch import Tensor
from typing_extensions import override

from lmmcl import ContinualLMM, Task, TaskSequenceDataModule
from lmmcl.callbacks import HeldOutEvaluation, LwF, WiSEFT
from lmmcl.errors import UserError
from lmmcl.mitigation import StageCallback
from tests.tiny import tiny_checkpoint
from tests.toy import toy_module, toy_task, toy_trainer

Stages = dict[str, dict[str, Tensor]]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


def fit(checkpoint: Path, run: Path, *callbacks: Callback) -> Stages:
    """Two tasks of one recipe, so that every stage holds the same tensors."""
    data = TaskSequenceDataModule([toy_task("first", 0), toy_task("second", 1)], batch_size=8)
    toy_trainer(callbacks=list(callbacks)).fit(toy_module(checkpoint, run), data)
    return {p.name: load_file(p / "weights.safetensors") for p in (run / "stages").iterdir()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_alpha_zero_is_plain_fine_tuning_bit_for_bit(checkpoint: Path, tmp_path: Path) -> None:
    plain = fit(checkpoint, tmp_path / "plain")
    merged = fit(checkpoint, tmp_path / "merged", WiSEFT(alpha=0.0, measure_before=False))
    assert same(plain["02-second"], merged["02-second"])


def test_alpha_one_leaves_the_base_weights_bit_for_bit(checkpoint: Path, tmp_path: Path) -> None:
    stages = fit(checkpoint, tmp_path, WiSEFT(alpha=1.0, measure_before=False))
    base = pretrained(checkpoint)
    assert same(stages["02-second"], {name: base[name] for name in stages["02-second"]})


def pretrained(checkpoint: Path) -> dict[str, Tensor]:
    from transformers import AutoModelForImageTextToText

    return dict(AutoModelForImageTextToText.from_pretrained(checkpoint).state_dict())


def test_the_next_task_starts_from_the_merge_of_before_and_after(checkpoint: Path, tmp_path: Path) -> None:
    seen: dict[str, dict[str, Tensor]] = {}

    class Watch(StageCallback):
        @override
        def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
            seen[f"start {task.name}"] = {
                n: p.detach().clone() for n, p in module.trained_parameters().items()
            }

        @override
        def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
            seen[f"end {task.name}"] = {n: p.detach().clone() for n, p in module.trained_parameters().items()}

    fit(checkpoint, tmp_path, Watch(), WiSEFT(alpha=0.25, measure_before=False))
    for name, start in seen["start second"].items():
        expected = 0.25 * seen["start first"][name] + 0.75 * seen["end first"][name]
        torch.testing.assert_close(start, expected)


def test_weights_before_and_after_the_merge_get_a_row_each(checkpoint: Path, tmp_path: Path) -> None:
    fit(checkpoint, tmp_path, HeldOutEvaluation(), LwF(), WiSEFT(alpha=0.5))
    stages = json.loads((tmp_path / "matrix.json").read_text())["stages"]
    rows = [(stage["name"], stage["variant"]) for stage in stages]
    assert rows == [
        ("00-base", ""),
        ("01-first", "before WiSEFT"),
        ("01-first", ""),
        ("02-second", "before WiSEFT"),
        ("02-second", ""),
    ]


@pytest.mark.parametrize("alpha", [-0.1, 1.5])
def test_an_alpha_out_of_range_is_named(alpha: float) -> None:
    with pytest.raises(UserError, match=rf"WiSEFT.alpha must lie in \[0, 1\], got {alpha}"):
        WiSEFT(alpha=alpha)
