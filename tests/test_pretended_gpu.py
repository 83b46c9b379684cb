"""What a run does on a GPU, as far as a CPU can tell: every tensor is where it should be, and the host runs ahead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from typing_extensions import override

from lmmcl import TaskSequenceDataModule
from lmmcl.callbacks import HeldOutEvaluation, LoRA, LwF
from tests.pretended_gpu import GPU, pretended_gpu
from tests.tiny import tiny_checkpoint
from tests.toy import toy_module, toy_task, toy_trainer

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="there is a GPU, which need not be pretended"
)


class Waits(Callback):
    """What each batch but the first of an epoch made the host wait for."""

    def __init__(self, waits: Counter[str]) -> None:
        self.each: list[Counter[str]] = []
        self._waits = waits
        self._before: Counter[str] | None = None

    @override
    def on_train_batch_end(self, *arguments: Any) -> None:
        now = Counter(self._waits)
        if self._before is not None:
            self.each.append(now - self._before)
        self._before = now

    @override
    def on_train_epoch_end(self, *arguments: Any) -> None:
        self._before = None


@pytest.fixture
def waits() -> Iterator[Counter[str]]:
    with pretended_gpu() as found:
        yield found


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("gpu") / "tiny", hidden=64, layers=1, dtype=torch.bfloat16)


def fit(
    checkpoint: Path,
    run: Path,
    callbacks: list[Callback],
    samples: int,
    data: dict[str, Any] | None = None,
    **settings: Any,
) -> None:
    trainer = toy_trainer(callbacks=callbacks, accelerator="gpu", precision="bf16-mixed")
    module = toy_module(checkpoint, run, **settings)
    held = [toy_task("held", 1)] if any(isinstance(one, HeldOutEvaluation) for one in callbacks) else []
    task = toy_task("first", 0, text=True, epochs=2, max_train_samples=samples)
    trainer.fit(module, TaskSequenceDataModule([task], held, batch_size=8, **(data or {})))


def test_tensors_of_host_and_gpu_do_not_meet(waits: Counter[str]) -> None:
    there = torch.ones(3, device="cuda")
    with pytest.raises(RuntimeError, match="same device"):
        there + torch.ones(3)
    with pytest.raises(RuntimeError, match="for generator"):
        there.normal_(generator=torch.Generator())
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()
    assert torch.nn.Linear(3, 2).to("cuda")(there).device == GPU
    assert waits == {"host to device": 2}


def test_a_step_waits_for_the_gpu_where_shapes_follow_from_values_and_nowhere_else(
    checkpoint: Path, tmp_path: Path, waits: Counter[str]
) -> None:
    watch = Waits(waits)
    fit(checkpoint, tmp_path / "run", [watch, LwF()], 16, checkpoint_every_n_steps=100)
    assert watch.each
    for found in watch.each:
        # Answer tokens of teacher and student, each at hidden states, labels and samples.
        assert found.pop("__getitem__ by a mask") == 4 and found.pop("nonzero") == 2
        # Transformers looks whether pictures fit their places, and up to twice whether there is padding.
        assert found.pop("item") == 2 and found.pop("__bool__") <= 4
        assert not found


def test_adapters_over_frozen_bits_train_with_moments_on_the_host_and_answer(
    checkpoint: Path, tmp_path: Path, waits: Counter[str]
) -> None:
    callbacks: list[Callback] = [
        LoRA(rank=4, at_end="keep"),
        HeldOutEvaluation(canary_every_n_steps=1, canary_samples=4),
    ]
    data = {"cache_features": str(tmp_path / "features"), "packing": True, "max_eval_samples": 2}
    settings = {"recipe": "mlp", "frozen_bits": 8, "optimizer": "adamw_offload"}
    fit(checkpoint, tmp_path / "run", callbacks, 8, data, **settings)
    assert (tmp_path / "run/matrix.json").exists()
    assert waits["copy_ between host and device"] > 0
