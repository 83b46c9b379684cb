"""The plan: its numbers are those of the run that follows."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from lmmcl import TaskSequenceDataModule
from lmmcl.plan import steps_of
from tests.tiny_run import TinyRun


def test_steps_are_those_the_loader_serves() -> None:
    tasks = [
        {"task": "count", "max_train_samples": 13, "epochs": 3},
        {"task": "word", "max_train_samples": 8},
    ]
    data = TaskSequenceDataModule(tasks, batch_size=4)
    assert [steps_of(data, index) for index in range(2)] == [4 * 3, 2]


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


def test_the_plan_fits_into_80_columns(finished: TinyRun) -> None:
    table = finished.output.partition("task      ")[2].partition("measuring")[0]
    assert max(len(line) for line in table.splitlines()) <= 80
