"""The plan: its numbers are those of the run that follows."""

import re
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

import lmmcl.run.host_memory
from lmmcl import TaskSequenceDataModule
from lmmcl.callbacks import EWC, L2SP, MAS, LwF
from lmmcl.foreseen import foresee
from lmmcl.mitigation import Mitigation
from lmmcl.report.plan import memory_of, plan
from tests.tiny_run import TinyRun
from tests.toy import toy_data, toy_module, toy_trainer


def test_steps_are_those_the_loader_serves() -> None:
    tasks = [
        {"task": "count", "max_train_samples": 13, "epochs": 3},
        {"task": "word", "max_train_samples": 8},
    ]
    data = TaskSequenceDataModule(tasks, batch_size=4)
    assert [foresee(data, index, []).steps for index in range(2)] == [4 * 3, 2]


def test_what_the_plan_says_to_train_is_what_the_stages_hold(finished: TinyRun, tiny: Path) -> None:
    attention = load_file(finished.path / "stages/01-count/weights.safetensors")
    count = sum(value.numel() for value in attention.values())
    total = sum(p.numel() for p in AutoModelForImageTextToText.from_pretrained(tiny).parameters())
    assert f"({count / 1e3:.1f} K parameters, {100 * count / total:.1f} %)" in finished.output


def test_memory_counts_weights_once_and_12_bytes_a_trained_parameter_beside(
    finished: TinyRun, tiny: Path
) -> None:
    model = AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.float32)
    weights = 4 * sum(p.numel() for p in model.parameters())
    of_task = [
        sum(value.numel() for name, value in load_file(path).items() if part in name)
        for path, part in (
            (finished.path / "stages/01-count/weights.safetensors", "self_attn"),
            (finished.path / "stages/02-word/weights.safetensors", "mlp"),
        )
    ]
    state = 12 * max(of_task)
    assert (
        f"weights {weights / 2**20:.1f} MiB, gradients and optimizer {state / 2**20:.1f} MiB"
        in finished.output
    )


@pytest.mark.parametrize(("callbacks", "copies"), [([], 0), ([LwF()], 1), ([LwF(), LwF(name="again")], 1)])
def test_memory_counts_buckets_under_ddp_and_one_copy_for_all_mitigations(
    tiny: Path, tmp_path: Path, callbacks: list[Mitigation], copies: int
) -> None:
    module = toy_module(tiny, tmp_path)
    toy_trainer(callbacks=callbacks).fit(module, toy_data())
    names = load_file(tmp_path / "stages/02-second/weights.safetensors")
    count = max(sum(t.numel() for n, t in names.items() if part in n) for part in ("self_attn", "mlp"))
    alone, ddp = memory_of(module), memory_of(module, ddp=True)
    assert (alone.state, ddp.state) == (12 * count, 16 * count)
    assert alone.copies == ddp.copies == 4 * count * copies
    assert alone.total == alone.weights + alone.state + alone.copies


def test_the_plan_says_what_the_disk_must_hold(finished: TinyRun) -> None:
    sizes = [path.stat().st_size for path in (finished.path / "stages").rglob("weights.safetensors")]
    said = " ".join(finished.output.split())
    assert f", stages {sum(sizes) / 2**20:.1f} MiB; " in said and re.search(
        r", kept by callbacks \d+\.\d MiB", said
    )


def test_the_plan_fits_into_80_columns(finished: TinyRun) -> None:
    table = finished.output.partition("task      ")[2].partition("base model")[0]
    assert max(len(line) for line in table.splitlines()) <= 80


@pytest.mark.parametrize(
    "mitigation", [EWC(batches=1), EWC(gamma=0.5, batches=1), MAS(batches=1), LwF(), L2SP()]
)
def test_the_copies_of_a_mitigation_are_those_that_it_holds_at_the_end(
    tiny: Path, tmp_path: Path, mitigation: Mitigation
) -> None:
    module = toy_module(tiny, tmp_path)
    toy_trainer(callbacks=[mitigation]).fit(module, toy_data())
    held = sum(t.numel() * t.element_size() for t in mitigation.tensors.values())
    assert held <= memory_of(module).copies
    if not isinstance(mitigation, LwF):  # which holds the last task's alone, and that may be the smaller one
        assert held == memory_of(module).copies


def test_the_plan_says_whether_training_goes_on_while_checkpoints_are_written(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = toy_module(tiny, tmp_path)
    trainer = toy_trainer()
    trainer.fit(module, toy_data())

    def said(free: int) -> str:
        monkeypatch.setattr(lmmcl.run.host_memory, "available_bytes", lambda: free)
        console = Console(width=80)
        with console.capture() as shown:
            console.print(plan(trainer, module))
        return " ".join(shown.get().split())

    size = max(sum(f.stat().st_size for f in one.iterdir()) for one in (tmp_path / "last").iterdir())
    enough = (1 << 29) + 2 * size + memory_of(module).state
    assert "and written while training goes on" in said(enough)
    little = said(enough - 2 * size)  # room for the copy, but not beside the moments
    assert "goes on" not in little and "are written while training stands still" in little
    assert "model.checkpoint_every_n_steps" in little
