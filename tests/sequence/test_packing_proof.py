"""Packed samples and micro-batches of tokens give the run that padded batches give, whatever looks at its samples."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lmmcl import TaskSequenceDataModule
from lmmcl.callbacks import DERpp, LwF
from lmmcl.errors import UserError
from tests.toy import toy_module, toy_task, toy_trainer
from tests.two_processes import Killed, KillerAtStep

STEPS = 3


def fit(checkpoint: Path, run: Path, kill_at: int | None = None, resume: bool = False, **layout: Any) -> None:
    """Two tasks, of whose rows every third has no picture; distillation at every position and replayed logits."""
    tasks = [toy_task("first", 0, text=True, recipe="full"), toy_task("second", 1, text=True)]
    data = TaskSequenceDataModule(tasks, batch_size=8, **layout)
    callbacks = [KillerAtStep(kill_at), LwF(positions="all"), DERpp(buffer=4)]
    toy_trainer(callbacks=callbacks).fit(toy_module(checkpoint, run, lr=1e-3, resume=resume), data)


def weights(run: Path) -> dict[str, torch.Tensor]:
    stages = sorted((run / "stages").glob("*/weights.safetensors"))
    return {f"{path.parent.name}/{key}": value for path in stages for key, value in load_file(path).items()}


def spent(run: Path) -> list[tuple[int, int]]:
    """Samples and tokens of each stage's training."""
    with (run / "logs" / "cost.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["phase"] == "train"]
    return [(int(line["samples"]), int(line["tokens"])) for line in lines if int(line["samples"])]


@pytest.fixture(scope="module")
def padded(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("padded") / "run"
    fit(tiny, run)
    return run


@pytest.mark.parametrize("layout", [{"packing": True}, {"micro_batch_tokens": 60}])
def test_a_run_ends_as_it_does_with_padded_batches(
    tiny: Path, tmp_path: Path, padded: Path, layout: dict[str, Any]
) -> None:
    fit(tiny, tmp_path / "run", **layout)
    found, wanted = weights(tmp_path / "run"), weights(padded)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=2e-5, msg=name)
    assert spent(tmp_path / "run") == spent(padded)


def test_a_killed_run_of_packed_micro_batches_of_tokens_ends_with_the_same_bytes(
    tiny: Path, tmp_path: Path
) -> None:
    layout: dict[str, Any] = {"packing": True, "micro_batch_tokens": 60}
    fit(tiny, tmp_path / "whole", **layout)
    with pytest.raises(Killed):
        fit(tiny, tmp_path / "killed", kill_at=STEPS + 1, **layout)
    fit(tiny, tmp_path / "killed", resume=True, **layout)
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)


def test_a_model_that_reads_packed_samples_otherwise_is_refused(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_positions(model: torch.nn.Module, batch: Any) -> dict[str, Any]:
        return {key: value for key, value in batch.inputs.items() if key != "position_ids"}

    monkeypatch.setattr("lmmcl.outputs.forward.inputs_of", without_positions)
    with pytest.raises(UserError, match=r"data\.packing: Llava.* differ by .* Set data\.packing: false"):
        fit(tiny, tmp_path / "run", packing=True)
