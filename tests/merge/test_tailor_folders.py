"""Model Tailor between two folders does what its callback does, and its ends are the two folders."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForImageTextToText
from typing_extensions import override

from lmmcl import ContinualLMM, StageCallback, Task
from lmmcl.callbacks import ModelTailor
from lmmcl.data.row import Row
from lmmcl.errors import UserError
from lmmcl.merge.folders import merge_folders
from lmmcl.merge.tailor_folders import PURPOSE, check_tuned, tailor_folders
from lmmcl.probing.calibration import draw_rows
from lmmcl.weights import copy_, parameters_of
from tests.callbacks.laws import law_fit, law_weights
from tests.merge.two_models import SINGLE, tuned_from

SETTINGS = {"keep": 0.2, "damping": 0.05}
CPU = torch.device("cpu")


@dataclass
class Tuned(StageCallback):
    """Keeps what the first task made of the model, before anything is tailored, and the rows that are drawn for it."""

    weights: dict[str, Tensor] = field(default_factory=dict)
    rows: Sequence[Row] = ()

    def __post_init__(self) -> None:
        super().__init__()

    @override
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if not self.weights:
            self.weights = {n: p.detach().clone() for n, p in module.trained_parameters().items()}
            self.rows = draw_rows(module, module.data.train_rows(0), 4, PURPOSE)


def test_it_writes_what_the_callback_writes_on_the_same_rows_and_weights(tiny: Path, tmp_path: Path) -> None:
    seen = Tuned()
    law_fit(tiny, tmp_path / "run", [seen, ModelTailor(0.2, 4, 0.05, measure_before=False)])
    expected = law_weights(tmp_path / "run")["01-first"]
    tuned = shutil.copytree(tiny, tmp_path / "tuned")
    model = AutoModelForImageTextToText.from_pretrained(tiny)
    copy_(parameters_of(model), parameters_of(model) | seen.weights)
    model.save_pretrained(tuned)
    to = tmp_path / "to"
    merge = tailor_folders(str(tiny), str(tuned), seen.rows, SETTINGS, CPU)
    merge_folders(str(tiny), [str(tuned)], to, merge, {})
    base, made = (parameters_of(AutoModelForImageTextToText.from_pretrained(at)) for at in (tiny, to))
    for name, value in base.items():
        assert torch.equal(made[name], expected.get(name, value)), name
    assert any(not torch.equal(made[name], seen.weights[name]) for name in expected)


@pytest.mark.parametrize(("keep", "same"), [(0.0, "base"), (1.0, "tuned")])
def test_its_ends_are_the_folders_byte_for_byte(keep: float, same: str, tiny: Path, tmp_path: Path) -> None:
    tuned = tuned_from(tiny, tmp_path / "tuned", 1)
    merge = tailor_folders(str(tiny), str(tuned), [], {**SETTINGS, "keep": keep}, CPU)
    merge_folders(str(tiny), [str(tuned)], tmp_path / "to", merge, {})
    source = tiny if same == "base" else tuned
    made, expected = load_file(tmp_path / "to" / SINGLE), load_file(source / SINGLE)
    assert made.keys() == expected.keys()
    assert all(torch.equal(made[name], value) for name, value in expected.items())


def test_what_it_cannot_run_is_refused_with_the_way_out(tiny: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="is an adapter; fold it first: lmmcl merge BASE"):
        check_tuned([str(adapter)])
    with pytest.raises(UserError, match="one tuned model, got 2; merge them by another method first"):
        check_tuned([str(tiny), str(tiny)])
    assert check_tuned([str(tiny)]) == str(tiny)
